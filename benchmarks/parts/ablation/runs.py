"""One run of the ablation: a network is trained, tracks and is scored; stopped, it goes on in its folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from parts.ablation.adaptors import KeptAdaptors
from parts.ablation.confidence import CONFIDENCE, confidence, read_confidences
from parts.ablation.rows import ROWS, TEACHER
from parts.ablation.sizes import Chosen, Size
from parts.ablation.stage_time import until
from parts.ablation.video import Videos
from parts.machine import machine
from parts.step_logs import losses

from mmdistill.reference.device import choose_device
from mmdistill.reference.importing.published import load_trunks
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.tracker import track_as_completed
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import DistillationSettings, TrainingSettings
from mmdistill.reference.training.stages import DistilledStage, SupervisedStage
from mmdistill.reference.training.trainer import train
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.runner import run_benchmark
from mmdistill.toolkit.interruption import raise_on_signal
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import TrackingSequence

logger = logging.getLogger(__name__)

NETWORK = "network.safetensors"
SCORES = "scores.json"


@dataclass(frozen=True)
class Experiment:
    """What all runs of a folder have in common.

    Attributes:
        size: how large.
        pairs: folder of pairs; empty: all video is procedural.
        trunk: file of the trunk's weights, for the teacher and for students whose size says so; empty: random ones.
        teacher_trunk: of the teacher's, if another.
    """

    size: Size
    pairs: str = ""
    trunk: str = ""
    teacher_trunk: str = ""

    @property
    def videos(self) -> Videos:
        """What is learned from and tracked."""
        return Videos(self.size, self.pairs)

    def find_trunk(self, run: Run) -> str:
        """Return the file of weights from which the trunks of a run's network start; empty: random ones."""
        if run.tracks is None:
            return self.teacher_trunk or self.trunk
        return self.trunk if self.size.pretrained_student else ""

    def described(self) -> dict[str, Any]:
        """Return it as JSON, without where files lie."""
        files = {name: Path(getattr(self, name)).name for name in ("pairs", "trunk", "teacher_trunk")}
        found: dict[str, Any] = json.loads(json.dumps(asdict(self) | files))
        return found


TEACHER_RUN = "teacher"
"""The folder of the teacher's training."""


@dataclass(frozen=True)
class Run:
    """What is trained, with whom, and what it tracks.

    Attributes:
        folder: where it lives, below the experiment's.
        network: what is trained; None: a teacher tracks with another seed.
        training: how; None with ``network``.
        distillation: with what; None: alone.
        tracks: which sequences; None: it becomes a teacher, which others track with.
        seed: of what is random in tracking.
        teacher: the folder of the training of the teacher that teaches, or tracks.
        kept_adaptors: whether what only distillation trains keeps batch norm's statistics when the network does.
    """

    folder: str
    network: NetworkSettings | None
    training: TrainingSettings | None
    distillation: DistillationSettings | None
    tracks: Literal["validation", "test"] | None
    seed: int = 0
    teacher: str = TEACHER_RUN
    kept_adaptors: bool = False


def teacher_run(size: Size) -> Run:
    """Return the teacher's training: one for all seeds and rows, as in the paper.

    What the seeds then spread over is what distillation does, and the time goes into one better teacher.
    """
    return Run(TEACHER_RUN, size.teacher_network(), size.teacher, None, None)


def teacher_tracks(seed: int) -> Run:
    """Return the teacher's tracking of the test sequences."""
    return Run(f"seed_{seed}/{TEACHER}", None, None, None, "test", seed)


def row_run(size: Size, name: str, seed: int, chosen: Chosen) -> Run:
    """Return a row's student of a seed, which decides its weights, its samples and chance in tracking."""
    row = ROWS[name]
    training, distillation = size.student_training(seed, chosen.factors), row.distillation(chosen.alpha, chosen.beta)
    return Run(f"seed_{seed}/{name}", size.student_network(row), training, distillation, "test", seed)


def choice_run(size: Size, name: str, seed: int, tried: Chosen) -> Run:
    """Return a row's student that tries something out on the validation sequences."""
    row = ROWS[name]
    weights = f"_alpha_{tried.alpha:g}_beta_{tried.beta:g}" if row.parts else ""
    rates = f"_trunk_{tried.factors.trunk:g}_fusion_{tried.factors.fusion:g}"
    folder = f"choice/{name}{rates}{weights}_seed_{seed}"
    training = size.student_training(seed, tried.factors, size.choice_steps)
    return Run(
        folder, size.student_network(row), training, row.distillation(tried.alpha, tried.beta), "validation", seed
    )


@dataclass(frozen=True)
class Place:
    """Where and until when runs are carried out.

    Attributes:
        experiment: what they belong to.
        root: its folder.
        device: where to train and track.
        threads: of each process.
        end: when a run stops in good order, seconds since the epoch.
        progress: whether to show bars.
    """

    experiment: Experiment
    root: Path
    device: str
    threads: int
    end: float
    progress: bool


def carry_out(run: Run, place: Place) -> str:
    """Do what is left of a run; return ``""`` where nothing is left, or why something is."""
    if finished(run, place.root):
        return ""
    if time.time() >= place.end:
        return "stopped"
    torch.set_num_threads(place.threads)
    try:
        with raise_on_signal(), until(place.end):
            _train(run, place)
            done = time.time() < place.end and _tracked(run, place)
    except KeyboardInterrupt:
        return "stopped"
    except DataError as error:
        return str(error)
    return "" if done else "stopped"


def finished(run: Run, root: Path) -> bool:
    """Whether nothing is left to do."""
    if run.tracks is None:
        return (root / run.folder / NETWORK).exists()
    return read_scores(run, root) is not None


def read_scores(run: Run, root: Path) -> dict[str, Any] | None:
    """Return what a run wrote at its end; None where it has not come so far, or the folder holds another run's."""
    file = root / run.folder / SCORES
    if not file.exists():
        return None
    found: dict[str, Any] = json.loads(file.read_text())
    return found if found["run"] == _identity(run) else None


def write_scores(run: Run, root: Path, figures: Mapping[str, Any]) -> None:
    """Write at the end of a run what it came to."""
    found = {"run": _identity(run), **figures}
    write_text(root / run.folder / SCORES, json.dumps(found, indent=2) + "\n")


def left(run: Run, root: Path) -> str:
    """Return in words how far an unfinished run is."""
    log = root / run.folder / "log.jsonl"
    steps = len(log.read_text().splitlines()) if log.exists() else 0
    tracked = len(list((root / run.folder / "results").glob("*.txt")))
    training = f"step {steps} of {run.training.steps}" if run.training is not None else ""
    tracking = f"{tracked} sequences tracked" if tracked else ""
    return f"{run.folder}: {', '.join(filter(None, (training, tracking))) or 'not begun'}"


def _identity(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(asdict(run)))
    return found


def _train(run: Run, place: Place) -> None:
    """Train what is to be trained to its end."""
    if run.network is None or run.training is None:
        return
    folder = place.root / run.folder
    device = choose_device(place.device)
    torch.manual_seed(run.training.seed)
    network = TrackerNetwork(run.network)
    experiment, training = place.experiment, run.training
    trunk = experiment.find_trunk(run)
    if trunk and load_trunks(network, trunk).folded:
        training = replace(training, freeze_bn=True)
    stage: SupervisedStage | DistilledStage = SupervisedStage(network)
    if run.distillation is not None:
        teacher = load_network(place.root / run.teacher / NETWORK).to(device)
        kind = KeptAdaptors if run.kept_adaptors else DistilledStage
        stage = kind(network, teacher, distillation=run.distillation)
    sampler = Sampler(
        training_video(experiment), run.network.crop_size, run.network.search_area, training.samples, seed=training.seed
    )
    train(stage, sampler, training, folder, device=device, title=run.folder, progress=place.progress)


def _tracked(run: Run, place: Place) -> bool:
    """Track and score the last checkpoint; return whether that is done."""
    if run.tracks is None:
        return True
    folder = place.root / run.folder
    source = run.teacher if run.network is None else run.folder
    network = load_network(place.root / source / NETWORK).to(choose_device(place.device))
    sequences = held_out_video(place.experiment, run.tracks)
    track = partial(track_as_completed, network, batch_size=place.experiment.size.together, seed=run.seed)
    boxes = run_benchmark(track, sequences, folder / "results", progress=place.progress)
    scores = score_sequences(boxes, sequences, PROTOCOLS["synthetic"])
    scored = read_confidences(folder / "results", sequences)
    found = {
        **scores.overall.rates(),
        "attributes": {name: each.rates() for name, each in scores.attributes.items()},
        "sequences": {name: each.rates() for name, each in scores.sequences.items()},
        CONFIDENCE: confidence(boxes, scored, sequences),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "loss, first and last steps": losses(folder / "log.jsonl"),
        "machine": machine() | {"device": choose_device(place.device).type},
    }
    write_scores(run, place.root, found)
    return True


@lru_cache(maxsize=1)
def training_video(experiment: Experiment) -> list[TrackingSequence]:
    """Return what all runs of this process learn from."""
    return experiment.videos.training()


@lru_cache(maxsize=1)
def held_out_video(experiment: Experiment, part: Literal["validation", "test"]) -> list[TrackingSequence]:
    """Return what runs of this process track."""
    return experiment.videos.validation() if part == "validation" else experiment.videos.test()
