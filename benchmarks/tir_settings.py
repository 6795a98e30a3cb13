"""Measures TIR-CMD's Table 1: all ten settings from one initial network, over seeds, tracked on TIR sequences.

Trains every setting and seed on the pairs that are not for testing. Tracks the TIR sides of videos composed from the
test pairs, and the TIR sequences of --sequences. A seed sets the training samples and the tracking's randomness; A1 is
the initial network, without training. The initial network also tracks the RGB sides of the composed videos, which shows
the possible gain. Differences to A1 are taken for each seed. The same command resumes; --only and --seeds select a
part. Takes an hour per seed on one core.

Example:
    python benchmarks/tir_settings.py --init-from rgb.safetensors --pairs PAIRS --sequences SEQUENCES \
        --work-dir runs/tir_settings --out benchmarks/results/tir_settings.json
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from parts.report_fields import machine, mean_losses
from parts.seed_statistics import claims_table
from parts.tir_settings_report import FIGURES, ON_RGB, ROWS, evaluate_claims, summary, table

from mmdistill import Pair
from mmdistill.reference.device import choose_device
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.tracker import score_network
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.reference.training.tir_cmd.runs import START_SETTING, SettingRuns
from mmdistill.reference.training.tir_cmd.samples import PatchSamples
from mmdistill.reference.training.tir_cmd.settings import SCHEDULES, CrossModalSettings, Schedule
from mmdistill.tir_cmd import SETTINGS
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence

TEST_VIDEO_SEED = 1_000_000
"""Seed of the composed videos; far from the seeds of training."""


@dataclass(frozen=True)
class Experiment:
    """Settings of the experiment.

    Attributes:
        init_from: weights file of the initial network.
        pairs: folder of pairs.
        num_test_pairs: number of test pairs, the last by name.
        real: folder of labeled TIR sequences; empty for none.
        schedule: schedule of every training.
        precision: precision of the training.
        residual: residual of TCL.
        videos: number of composed videos.
        length: frames per composed video.
    """

    init_from: str
    pairs: str
    num_test_pairs: int
    real: str
    schedule: Schedule
    precision: str
    residual: str
    videos: int
    length: int


class SingleModality:
    """A sequence reduced to one modality."""

    attributes: Mapping[str, NDArray[np.bool_]] = {}

    def __init__(self, sequence: TrackingSequence, modality: str) -> None:
        self._sequence, self._modality = sequence, modality
        self.name: str = sequence.name
        self.boxes: Boxes = sequence.boxes

    def __len__(self) -> int:
        return len(self._sequence)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` with one modality."""
        pair = self._sequence.frame(index)
        return Pair(pair.rgb, None) if self._modality == "rgb" else Pair(None, pair.tir)


def read_test_sequences(experiment: Experiment) -> dict[str, dict[str, Sequence[TrackingSequence]]]:
    """Return the sequences by modality and kind: composed and real for TIR, composed for RGB."""
    composed = composed_sequences(
        experiment.pairs,
        slice(-experiment.num_test_pairs, None),
        count=experiment.videos,
        seed=TEST_VIDEO_SEED,
        length=experiment.length,
    )
    by_modality: dict[str, dict[str, Sequence[TrackingSequence]]] = {
        modality: {"composed": [SingleModality(each, modality) for each in composed]}  # type: ignore[misc]
        for modality in ("tir", "rgb")
    }
    if experiment.real:
        by_modality["tir"]["real"] = read_sequences(experiment.real, modality="tir")
    return by_modality


def measure(
    network: TrackerNetwork, sequences: Mapping[str, Sequence[TrackingSequence]], seed: int, title: str
) -> dict[str, Any]:
    """Return PR, NPR and SR by kind, over all sequences and for each."""
    results = {}
    for kind, videos in sequences.items():
        scores = score_network(network, videos, PROTOCOLS["vot"], seed=seed, title=f"{title}, {kind}")
        results[kind] = {
            "overall": scores.overall.rates(),
            "sequences": {name: each.rates() for name, each in scores.sequences.items()},
        }
    return results


def run_seed(
    experiment: Experiment,
    sequences: Mapping[str, Mapping[str, Sequence[TrackingSequence]]],
    seed: int,
    names: Sequence[str],
    folder: Path,
    device: torch.device,
) -> None:
    """Train and score settings; write each setting's scores when it is finished."""
    initial = load_network(experiment.init_from)
    pairs = open_pairs(experiment.pairs, on_broken="skip")[: -experiment.num_test_pairs]
    runs = SettingRuns(
        initial,
        PatchSamples(pairs, initial.settings),
        lambda row: experiment.schedule.training(row, precision=experiment.precision, seed=seed),
        folder,
        settings=CrossModalSettings(residual=experiment.residual),  # type: ignore[arg-type]
        device=device,
    )
    for name in (*names, *([ON_RGB] if START_SETTING in names else [])):
        file = folder / f"scores_{name}.json"
        if read_scores(file, experiment):
            continue
        network = initial if name == ON_RGB else runs.network(name)
        sides = sequences["rgb" if name == ON_RGB else "tir"]
        scores = {
            "experiment": asdict(experiment),
            "scores": measure(network.to(device), sides, seed, f"{name}, seed {seed}"),
            "loss": mean_losses(folder / name / "log.jsonl"),
        }
        write_text(file, json.dumps(scores, indent=2) + "\n")


def read_scores(file: Path, experiment: Experiment) -> dict[str, Any] | None:
    """Return the scores from a file of this experiment; None otherwise."""
    if not file.exists():
        return None
    content: dict[str, Any] = json.loads(file.read_text())
    return content if content["experiment"] == asdict(experiment) else None


def collect_results(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return the report of all finished settings."""
    by_seed: dict[int, dict[str, Any]] = {}
    losses_by_seed: dict[str, dict[str, Any]] = {}
    for seed_folder in sorted(folder.glob("seed_*"), key=lambda path: int(path.name.removeprefix("seed_"))):
        seed = int(seed_folder.name.removeprefix("seed_"))
        contents = {name: read_scores(seed_folder / f"scores_{name}.json", experiment) for name in ROWS}
        finished = {name: each for name, each in contents.items() if each is not None}
        if finished:
            by_seed[seed] = {name: each["scores"] for name, each in finished.items()}
            losses_by_seed[str(seed)] = {name: each["loss"] for name, each in finished.items() if each["loss"]}
    return {
        "settings": summary(by_seed),
        "claims": evaluate_claims(by_seed),
        "loss, first and last steps": losses_by_seed,
        "by seed": {str(seed): results for seed, results in by_seed.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--init-from", required=True, help="weights of an RGB tracker")
    parser.add_argument("--pairs", required=True, help="folder of aligned pairs")
    parser.add_argument(
        "--num-test-pairs", type=int, default=30, help="pairs for testing, the last by name; default 30"
    )
    parser.add_argument("--sequences", dest="real", default="", help="folder of labeled TIR sequences")
    parser.add_argument(
        "--work-dir", type=Path, default=Path("runs/tir_settings"), help="folder of trainings and scores"
    )
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="seeds; default 0 1 2")
    parser.add_argument(
        "--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING", help="only these settings"
    )
    parser.add_argument("--schedule", choices=SCHEDULES, default="short", help="training schedule; default short")
    parser.add_argument("--steps", type=int, help="training steps; replaces the schedule's")
    parser.add_argument("--rate-factor", type=float, help="factor on the learning rates; replaces the schedule's")
    parser.add_argument("--train-bn", action="store_true", help="do not freeze batch-norm statistics")
    parser.add_argument(
        "--residual", choices=("hinge", "squared"), default=CrossModalSettings().residual, help="residual of TCL"
    )
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="default float32")
    parser.add_argument("--videos", type=int, default=40, help="composed videos; default 40")
    parser.add_argument("--length", type=int, default=60, help="frames per composed video; default 60")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; default 1")
    parser.add_argument("--device", default="cpu", help="auto, cpu or cuda; default cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    schedule = SCHEDULES[arguments.schedule]
    values = {name: getattr(arguments, name) for name in ("steps", "rate_factor")}
    schedule = replace(schedule, **{name: value for name, value in values.items() if value is not None})
    fields_given = ("init_from", "pairs", "num_test_pairs", "real", "precision", "residual", "videos", "length")
    schedule = replace(schedule, freeze_bn=not arguments.train_bn)
    experiment = Experiment(schedule=schedule, **{name: getattr(arguments, name) for name in fields_given})
    sequences = read_test_sequences(experiment)
    device = choose_device(arguments.device)
    for seed in arguments.seeds:
        run_seed(experiment, sequences, seed, arguments.only, arguments.work_dir / f"seed_{seed}", device)
    report = {
        "machine": machine() | {"device": str(device), "threads": arguments.threads},
        "experiment": {
            **asdict(experiment),
            **{
                name: Path(getattr(experiment, name)).name for name in ("init_from", "pairs", "real")
            },  # file names only
            "frames": {kind: sum(map(len, each)) for kind, each in sequences["tir"].items()},
        },
        **collect_results(experiment, arguments.work_dir),
    }
    for kind, videos in sequences["tir"].items():
        print(f"\n{kind}, {len(videos)} sequences\n\n" + "\n".join(table(report, kind)))
    print("\nThe paper's claims, composed\n\n" + "\n".join(claims_table(report["claims"], FIGURES)))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
