"""``mmdistill adapt-tir``: trains a TIR tracker without labels by TIR-CMD."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mmdistill.cli.arguments import ArgumentError, check_pair_folders
from mmdistill.cli.benchmark_options import warn_of_data_issues
from mmdistill.reference.training.settings import RateFactor
from mmdistill.reference.training.tir_cmd.settings import SCHEDULES, CrossModalSettings
from mmdistill.toolkit.data_issues import DataIssues, printable
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.ranges import NonNegativeInt, PositiveInt, Range, Seed
from mmdistill.toolkit.sequence import TrackingSequence

if TYPE_CHECKING:
    from mmdistill.reference.models.tracker_network import TrackerNetwork


def adapt_tir(
    setting: str,
    weights: Path,
    out: Path,
    pairs: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    schedule: Literal["paper", "short"] = "paper",
    steps: PositiveInt | None = None,
    rate_factor: RateFactor | None = None,
    update_bn: bool = False,
    boxes: Path | None = None,
    num_test_pairs: NonNegativeInt = 0,
    evaluate: Path | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: Annotated[int, Range(0, 1024)] = 0,
    seed: Seed = 0,
    device: str = "auto",
    quiet: bool = False,
    loss: CrossModalSettings = CrossModalSettings(),
) -> None:
    """Train a TIR tracker without labels, from an RGB tracker and RGB-TIR image pairs.

    The method is TIR-CMD. Some settings start from others, which are trained first: D3 from B3 and C1, B3 from B1 and
    B2. Each setting has its folder in --out. The same command resumes an interrupted run and reuses trained settings.

    Try it on a CPU:

      mmdistill adapt-tir --setting D3 --pairs PAIRS --weights rgb.safetensors --out runs/tir --schedule short

    Train as in the paper:

      mmdistill adapt-tir --setting D3 --pairs PAIRS --weights dimp18.safetensors --out runs/tir --workers 4

    Score the tracker before and after, on labeled TIR sequences:

      mmdistill adapt-tir --setting D3 --pairs PAIRS --weights rgb.safetensors --out runs/tir --evaluate SEQUENCES

    Args:
        setting: Row of the paper's Table 1. A1: the starting tracker, unchanged. B1, B2: box estimation (BBE), on
            either branch. B3: B1 and B2 combined. C1: target center location (TCL). D1, D2: both, on either branch.
            D3: both, on both branches, the paper's best. D4: D3 with random patches. D5: D3 with detected patches.
        weights: Starting tracker: network.safetensors of `train rgb`, or a DiMP or ATOM from `convert`. For ATOM only
            box estimation is trained.
        out: Folder for the runs and the final network.safetensors.
        pairs: Folder of aligned pairs without labels. The modality is in the name of a folder, such as rgb and tir,
            train/visible and train/infrared, or KAIST's visible and lwir. It may also be in the file name: 1_rgb.png
            and 1_ir.png. An image may also have RGB in its left half and TIR in its right half.
        rgb: Folder of RGB images, with --tir in place of --pairs.
        tir: Folder of TIR images.
        side_by_side: Read each image of --pairs as RGB in the left half and TIR in the right half. By default this is
            detected: all right halves are gray, and most left halves have color.
        schedule: paper: 260,000 steps of 5 pairs for each setting. short: 260 steps at 100 times the learning rates.
        steps: Steps of each setting, in place of those of the schedule. Learning rates are halved in proportion.
        rate_factor: Factor on the paper's learning rates, in place of that of the schedule.
        update_bn: Update batch-norm statistics of trained layers. In batches of five pairs, training
            then computes another function than tracking.
        boxes: Folder of detected boxes for D5: NAME.txt for each pair, a line "x y w h [score [label]]" in pixels.
            Boxes with a score below 0.5 are dropped. By default salient regions are used.
        num_test_pairs: Pairs left out of training, the last by name.
        evaluate: Folder of labeled TIR sequences, to score the tracker before and after.
        precision: Number format of training. bfloat16 is about twice as fast on processors that support it.
        workers: Processes that prepare batches. 0 for none.
        seed: Seed of the samples.
        device: cpu, cuda, or auto.
        quiet: Show no progress.
        loss: Weights and options of the loss.
    """
    from mmdistill.tir_cmd import SETTINGS

    if setting not in SETTINGS:
        raise ArgumentError(f"--setting: expected one of {', '.join(SETTINGS)} (see --help); got {setting!r}")
    if boxes is not None and SETTINGS[setting].patches != "detection":
        raise ArgumentError(f"--boxes: is for settings with a detector (D5), not for {setting}; leave it out")
    check_pair_folders("--pairs", pairs, rgb, tir)

    from mmdistill.reference.models.tracker_network import to_tir_network
    from mmdistill.reference.models.weights import load_network, save_network
    from mmdistill.reference.training.distributed import DistributedContext, join_process_group, leave_process_group
    from mmdistill.reference.training.tir_cmd.runs import SettingRuns
    from mmdistill.reference.training.tir_cmd.samples import BoxFiles, PatchSamples

    chosen = join_process_group(device)
    network = load_network(weights)
    data_issues = DataIssues()
    sequences = [] if evaluate is None else read_sequences(evaluate, modality="tir", data_issues=data_issues)
    opened = open_pairs(pairs, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip")
    opened.report_skipped(data_issues)
    if DistributedContext.current().first:
        warn_of_data_issues(data_issues)
    training_pairs = opened[: -num_test_pairs or None]
    samples = PatchSamples(
        training_pairs, network.settings, boxes=None if boxes is None else BoxFiles(boxes), progress=not quiet
    )
    plan = SCHEDULES[schedule]
    plan = replace(
        plan,
        steps=plan.steps if steps is None else steps,
        rate_factor=plan.rate_factor if rate_factor is None else rate_factor,
        freeze_bn=not update_bn,
    )
    runs = SettingRuns(
        network,
        samples,
        lambda row: plan.training(row, precision=precision, workers=workers, seed=seed),
        out,
        settings=loss,
        device=chosen,
        progress=not quiet,
    )
    context = DistributedContext.current()
    with context.hold(out):
        adapted = runs.network(setting)
        leave_process_group()
        if not context.first:
            return
        save_network(out / "network.safetensors", adapted)
        for kind, patched in samples.patched.items():
            print(f"{kind}: {patched}")
        if sequences:
            networks = {"start": to_tir_network(network).to(chosen), setting: adapted.to(chosen)}
            print(_compare(networks, sequences, out, progress=not quiet))
    print(printable(out / "network.safetensors"))


def _compare(
    networks: Mapping[str, TrackerNetwork], sequences: Sequence[TrackingSequence], out: Path, *, progress: bool
) -> str:
    """Track with each network, write the scores to ``evaluation.json``, and return a table."""
    from mmdistill.reference.tracking.tracker import score_network

    scores = {
        name: score_network(network, sequences, PROTOCOLS["vot"], title=f"tracking, {name}", progress=progress)
        for name, network in networks.items()
    }
    content = {name: json.loads(each.to_json()) for name, each in scores.items()}
    write_text(out / "evaluation.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    rows: list[list[str | float]] = [
        [name, each.overall.PR, each.overall.NPR, each.overall.SR] for name, each in scores.items()
    ]
    return format_table(["tracker", "PR", "NPR", "SR"], rows)
