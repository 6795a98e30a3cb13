"""``mmdistill train tir --setting``: a better TIR tracker from pairs that nobody labeled (TIR-CMD)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mmdistill.cli.benchmark_source import warn_of_data_issues
from mmdistill.reference.models.tracker_network import TrackerNetwork, to_tir_network
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.tracking.batch_runner import score_network
from mmdistill.reference.training.distributed import DistributedContext, join, leave
from mmdistill.reference.training.tir_cmd.runs import SCHEDULES, RateFactor, SettingRuns
from mmdistill.reference.training.tir_cmd.samples import BoxFiles, PatchSamples
from mmdistill.reference.training.tir_cmd.stage import CrossModalSettings
from mmdistill.tir_cmd import SETTINGS
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.evaluation.protocols import RULES
from mmdistill.toolkit.evaluation.tables import format_table
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.ranges import NonNegativeInt, PositiveInt, Range, Seed
from mmdistill.toolkit.sequence import TrackingSequence


def train_tir(
    setting: str,
    start: Annotated[Path, tyro.conf.arg(name="from")],
    out: Path,
    pairs: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    schedule: Literal["paper", "short"] = "paper",
    steps: PositiveInt | None = None,
    rate_factor: RateFactor | None = None,
    tuned_statistics: bool = False,
    boxes: Path | None = None,
    hold_out: NonNegativeInt = 0,
    evaluate: Path | None = None,
    precision: Literal["float32", "bfloat16"] = "float32",
    workers: Annotated[int, Range(0, 1024)] = 0,
    seed: Seed = 0,
    device: str = "auto",
    quiet: bool = False,
    loss: CrossModalSettings = CrossModalSettings(),
) -> None:
    """Train a TIR tracker without labels, from an RGB tracker and aligned RGB-TIR pairs (TIR-CMD).

    The same command again goes on where it stopped. First on a CPU, to see that it works, then as in the paper:

      mmdistill train tir --setting D3 --pairs PAIRS --from rgb.safetensors --out runs/tir --schedule short

      mmdistill train tir --setting D3 --pairs PAIRS --from dimp18.safetensors --out runs/tir --workers 4

    What a setting starts from is trained first: D3 from B3 and C1, B3 from B1 and B2. Each has its folder in --out, and
    settings trained there already are taken as they are. How good the tracker was and is, on TIR sequences:

      mmdistill train tir --setting D3 --pairs PAIRS --from rgb.safetensors --out runs/tir --evaluate SEQUENCES

    With `--data` in place of `--setting`, a TIR tracker is trained on labeled data: see mmdistill train --help.

    Args:
        setting: a row of the paper's Table 1. A1: the start as it is. B1, B2: box estimation (BBE), on either branch.
            B3: B1 and B2 put together. C1: target center location (TCL). D1, D2: both, on either branch. D3: both, on
            both branches, the paper's best. D4: D3 with random patches. D5: D3 with detected ones.
        pairs: folder of aligned pairs without labels: folders named for RGB and TIR at any depth (rgb and tir,
            train/visible and train/infrared, vi/train and ir/train, KAIST's setXX/VYYY/{visible,lwir}), file names
            (1_rgb.png and 1_ir.png), or images with RGB in the left half and TIR in the right.
        rgb: folder of RGB images, whatever its name, with --tir in place of --pairs.
        tir: folder of TIR images, whatever its name.
        side_by_side: take every image of --pairs as RGB in the left half, TIR in the right. Without it, this is done
            only where all right halves are gray and most left halves have color.
        start: the tracker to start from: a network.safetensors of `train rgb`, or what `convert` made of a DiMP or an
            ATOM. Of an ATOM the box estimation alone is trained.
        out: where the runs live, and in the end network.safetensors.
        schedule: paper: 260,000 steps of 5 pairs each setting. short: 260 steps at a hundred times its rates.
        steps: of each setting, in place of the schedule's; the rates are halved in proportion.
        rate_factor: what the paper's learning rates are multiplied by, in place of the schedule's.
        tuned_statistics: what is tuned learns batch-norm statistics too, as in the paper; in batches of five pairs what
            learns is then another function than what tracks.
        boxes: for D5, folder of boxes that a detector found: <name>.txt for each pair, x y w h [score [label]] a line;
            those of a score below 0.5 are dropped. Without it, regions that stand out are taken.
        hold_out: how many pairs, the last by name, are left for testing.
        evaluate: folder of labeled TIR sequences, on which the start and the result are scored.
        precision: bfloat16: about twice as fast where the processor has it.
        workers: processes that prepare batches; 0 for none.
        seed: of the samples.
        device: cpu, cuda, or auto.
        quiet: show no progress.
        loss: weights and options of the loss.
    """
    if setting not in SETTINGS:
        raise DataError(f"--setting: expected one of {', '.join(SETTINGS)} (see --help); got {setting!r}")
    if boxes is not None and SETTINGS[setting].patches != "detection":
        raise DataError(f"--boxes: is for settings with a detector (D5), not for {setting}; leave it out")
    if pairs is None and rgb is None and tir is None:
        raise DataError("--pairs: expected a folder of pairs, or --rgb and --tir")
    place = join(device)
    network = load_network(start)
    data_issues = DataIssues()
    sequences = [] if evaluate is None else read_sequences(evaluate, modality="tir", data_issues=data_issues)
    found = open_pairs(pairs, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip")
    found.note_left_out(data_issues)
    if DistributedContext.current().first:
        warn_of_data_issues(data_issues)
    found = found[: -hold_out or None]
    samples = PatchSamples(
        found, network.settings, boxes=None if boxes is None else BoxFiles(boxes), progress=not quiet
    )
    plan = SCHEDULES[schedule]
    plan = replace(
        plan,
        steps=plan.steps if steps is None else steps,
        rate_factor=plan.rate_factor if rate_factor is None else rate_factor,
        kept_statistics=not tuned_statistics,
    )
    runs = SettingRuns(
        network,
        samples,
        lambda row: plan.training(row, precision=precision, workers=workers, seed=seed),
        out,
        settings=loss,
        device=place,
        progress=not quiet,
    )
    ranks = DistributedContext.current()
    with ranks.hold(out):
        made = runs.network(setting)
        leave()
        if not ranks.first:
            return
        save_network(out / "network.safetensors", made)
        for kind, patched in samples.patched.items():
            print(f"{kind}: {patched}")
        if sequences:
            networks = {"start": to_tir_network(network).to(place), setting: made.to(place)}
            print(_compare(networks, sequences, out, progress=not quiet))
    print(printable(out / "network.safetensors"))


def _compare(
    networks: Mapping[str, TrackerNetwork], sequences: Sequence[TrackingSequence], out: Path, *, progress: bool
) -> str:
    """Track by each network, write what they score to ``evaluation.json``, and return a table."""
    scores = {
        name: score_network(network, sequences, RULES["vot"], title=f"tracking, {name}", progress=progress)
        for name, network in networks.items()
    }
    content = {name: json.loads(each.to_json()) for name, each in scores.items()}
    write_text(out / "evaluation.json", json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    rows: list[list[str | float]] = [
        [name, each.overall.PR, each.overall.NPR, each.overall.SR] for name, each in scores.items()
    ]
    return format_table(["tracker", "PR", "NPR", "SR"], rows)
