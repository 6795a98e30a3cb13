"""TIR-CMD's Table 1 on what is at hand: all ten settings from one start, over seeds, tracked on TIR sequences.

    python benchmarks/tir_settings.py --from rgb.safetensors --pairs PAIRS --hold-out 30 --real SEQUENCES \
        --runs runs/tir_settings --out benchmarks/results/tir_settings.json

Every seed trains what the settings ask for, and what they start from once, on the pairs that are not held out. A seed
decides the samples and random patches, and in tracking the first frame's augmentation and the boxes that are refined;
of A1, the start itself, the tracking alone. Tracked are the TIR sides of videos composed from the held-out pairs, the
same for all seeds, and the TIR sequences of ``--real``. What the start reaches on the RGB sides of the same videos
tells how much there is to gain. Differences to A1 are taken seed by seed. Stopped and started again it goes on where it
was; ``--only`` and fewer ``--seeds`` do a part, and the table shows what is there.
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
from parts.claims import claims_table
from parts.machine import machine
from parts.step_logs import losses
from parts.tir_settings_report import FIGURES, ON_RGB, ROWS, judged, summary, table

from mmdistill import Pair
from mmdistill.reference.device import choose_device
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.tracker import score_network
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.reference.training.settings import SCHEDULES, CrossModalSettings, Schedule
from mmdistill.reference.training.tir_cmd.runs import START_SETTING, SettingRuns
from mmdistill.reference.training.tir_cmd.samples import PatchSamples
from mmdistill.tir_cmd import SETTINGS
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence

HELD_OUT_SEED = 1_000_000
"""Of the composed videos; far from the seeds of training."""


@dataclass(frozen=True)
class Experiment:
    """What every result depends on.

    Attributes:
        start: file of the tracker that all settings begin with.
        pairs: folder of pairs.
        hold_out: how many pairs, the last by name, are for testing.
        real: folder of labeled TIR sequences; none if empty.
        schedule: of every training.
        precision: of training.
        residual: TCL's.
        videos: how many are composed.
        length: frames of each.
    """

    start: str
    pairs: str
    hold_out: int
    real: str
    schedule: Schedule
    precision: str
    residual: str
    videos: int
    length: int


class Side:
    """A sequence without its other modality."""

    attributes: Mapping[str, NDArray[np.bool_]] = {}

    def __init__(self, sequence: TrackingSequence, modality: str) -> None:
        self._sequence, self._modality = sequence, modality
        self.name: str = sequence.name
        self.boxes: Boxes = sequence.boxes

    def __len__(self) -> int:
        return len(self._sequence)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index``, one modality alone."""
        pair = self._sequence.frame(index)
        return Pair(pair.rgb, None) if self._modality == "rgb" else Pair(None, pair.tir)


def test_sequences(experiment: Experiment) -> dict[str, dict[str, Sequence[TrackingSequence]]]:
    """Return by modality the sequences by kind: of TIR all, of RGB the composed."""
    composed = composed_sequences(
        experiment.pairs,
        slice(-experiment.hold_out, None),
        count=experiment.videos,
        seed=HELD_OUT_SEED,
        length=experiment.length,
    )
    found: dict[str, dict[str, Sequence[TrackingSequence]]] = {
        modality: {"composed": [Side(each, modality) for each in composed]}  # type: ignore[misc]
        for modality in ("tir", "rgb")
    }
    if experiment.real:
        found["tir"]["real"] = read_sequences(experiment.real, modality="tir")
    return found


def measure(
    network: TrackerNetwork, sequences: Mapping[str, Sequence[TrackingSequence]], seed: int, title: str
) -> dict[str, Any]:
    """Return by kind PR, NPR and SR over all sequences, and of each."""
    found = {}
    for kind, videos in sequences.items():
        scores = score_network(network, videos, PROTOCOLS["vot"], seed=seed, title=f"{title}, {kind}")
        found[kind] = {
            "overall": scores.overall.rates(),
            "sequences": {name: each.rates() for name, each in scores.sequences.items()},
        }
    return found


def run_seed(
    experiment: Experiment,
    sequences: Mapping[str, Mapping[str, Sequence[TrackingSequence]]],
    seed: int,
    names: Sequence[str],
    folder: Path,
    device: torch.device,
) -> None:
    """Train and score settings, and write each one's scores as soon as they are there."""
    start = load_network(experiment.start)
    pairs = open_pairs(experiment.pairs, on_broken="skip")[: -experiment.hold_out]
    runs = SettingRuns(
        start,
        PatchSamples(pairs, start.settings),
        lambda row: experiment.schedule.training(row, precision=experiment.precision, seed=seed),
        folder,
        settings=CrossModalSettings(residual=experiment.residual),  # type: ignore[arg-type]
        device=device,
    )
    for name in (*names, *([ON_RGB] if START_SETTING in names else [])):
        file = folder / f"scores_{name}.json"
        if read_scores(file, experiment):
            continue
        network = start if name == ON_RGB else runs.network(name)
        sides = sequences["rgb" if name == ON_RGB else "tir"]
        scores = {
            "experiment": asdict(experiment),
            "scores": measure(network.to(device), sides, seed, f"{name}, seed {seed}"),
            "loss": losses(folder / name / "log.jsonl"),
        }
        write_text(file, json.dumps(scores, indent=2) + "\n")


def read_scores(file: Path, experiment: Experiment) -> dict[str, Any] | None:
    """Return what was written of this experiment, or None."""
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    return found if found["experiment"] == asdict(experiment) else None


def collected(experiment: Experiment, folder: Path) -> dict[str, Any]:
    """Return the report of all that this experiment has written."""
    by_seed: dict[int, dict[str, Any]] = {}
    losses_by_seed: dict[str, dict[str, Any]] = {}
    for seed_folder in sorted(folder.glob("seed_*"), key=lambda path: int(path.name.removeprefix("seed_"))):
        seed = int(seed_folder.name.removeprefix("seed_"))
        found = {name: read_scores(seed_folder / f"scores_{name}.json", experiment) for name in ROWS}
        there = {name: each for name, each in found.items() if each is not None}
        if there:
            by_seed[seed] = {name: each["scores"] for name, each in there.items()}
            losses_by_seed[str(seed)] = {name: each["loss"] for name, each in there.items() if each["loss"]}
    return {
        "settings": summary(by_seed),
        "claims": judged(by_seed),
        "loss, first and last steps": losses_by_seed,
        "by seed": {str(seed): found for seed, found in by_seed.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="start", required=True, help="weights of an RGB tracker")
    parser.add_argument("--pairs", required=True, help="folder of aligned pairs")
    parser.add_argument("--hold-out", type=int, default=30)
    parser.add_argument("--real", default="", help="folder of labeled TIR sequences")
    parser.add_argument("--runs", type=Path, default=Path("runs/tir_settings"), help="where trainings and scores live")
    parser.add_argument("--out", type=Path, help="file for the report")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--schedule", choices=SCHEDULES, default="short")
    parser.add_argument("--steps", type=int, help="in place of the schedule's")
    parser.add_argument("--rate-factor", type=float, help="in place of the schedule's")
    parser.add_argument("--tuned-statistics", action="store_true", help="tune batch-norm statistics too")
    parser.add_argument("--residual", choices=("hinge", "squared"), default=CrossModalSettings().residual, help="TCL's")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--videos", type=int, default=40, help="how many are composed")
    parser.add_argument("--length", type=int, default=60, help="frames of each")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    schedule = SCHEDULES[arguments.schedule]
    given = {name: getattr(arguments, name) for name in ("steps", "rate_factor")}
    schedule = replace(schedule, **{name: value for name, value in given.items() if value is not None})
    named = ("start", "pairs", "hold_out", "real", "precision", "residual", "videos", "length")
    schedule = replace(schedule, freeze_bn=not arguments.tuned_statistics)
    experiment = Experiment(schedule=schedule, **{name: getattr(arguments, name) for name in named})
    sequences = test_sequences(experiment)
    device = choose_device(arguments.device)
    for seed in arguments.seeds:
        run_seed(experiment, sequences, seed, arguments.only, arguments.runs / f"seed_{seed}", device)
    report = {
        "machine": machine() | {"device": str(device), "threads": arguments.threads},
        "experiment": {
            **asdict(experiment),
            **{name: Path(getattr(experiment, name)).name for name in ("start", "pairs", "real")},  # not where they lie
            "frames": {kind: sum(map(len, each)) for kind, each in sequences["tir"].items()},
        },
        **collected(experiment, arguments.runs),
    }
    for kind, videos in sequences["tir"].items():
        print(f"\n{kind}, {len(videos)} sequences\n\n" + "\n".join(table(report, kind)))
    print("\nThe paper's claims, composed\n\n" + "\n".join(claims_table(report["claims"], FIGURES)))
    if arguments.out is not None:
        write_text(arguments.out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
