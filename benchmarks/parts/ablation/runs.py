"""Runs of the ablation as data: what is trained, with which teacher, and which sequences are tracked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from parts.ablation.rows import ROWS, TEACHER, Weights
from parts.ablation.sizes import Size
from parts.ablation.video import Videos

from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.training.settings import DistillationSettings, TrainingSettings
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text

NETWORK = "network.safetensors"
SCORES = "scores.json"

TEACHER_RUN = "teacher"
"""Folder of the teacher's training."""


@dataclass(frozen=True)
class Experiment:
    """Settings that all runs of a folder share.

    Attributes:
        size: the preset.
        pairs: folder of pairs; empty for procedural video only.
        trunk: trunk weights of the teacher, and of students whose size asks for them; empty for random weights.
        teacher_trunk: the teacher's trunk weights if they differ.
        pictures: folder of photographs and cut-outs in place of pairs; empty for none.
        given_teacher: SHA-256 of the weights of a teacher that was trained elsewhere; empty to train one.
    """

    size: Size
    pairs: str = ""
    trunk: str = ""
    teacher_trunk: str = ""
    pictures: str = ""
    given_teacher: str = ""

    @property
    def videos(self) -> Videos:
        """The video to train on and to track."""
        return Videos(self.size, self.pairs, self.pictures)

    def find_trunk(self, run: Run) -> str:
        """Return the file of a run's initial trunk weights; empty for random weights."""
        if run.tracks is None:
            return self.teacher_trunk or self.trunk
        return self.trunk if self.size.pretrained_student else ""

    def describe(self) -> dict[str, Any]:
        """Return the settings that change a result as JSON, with file names instead of paths."""
        files = {name: Path(getattr(self, name)).name for name in ("pairs", "pictures", "trunk", "teacher_trunk")}
        settings: dict[str, Any] = _as_json(self) | files
        return settings


@dataclass(frozen=True)
class Run:
    """A training and the tracking after it.

    Attributes:
        folder: the run's folder inside the experiment's.
        network: the network to train; None to track with a trained one, that of ``teacher``.
        training: the training's settings; None together with ``network``.
        distillation: the distillation's settings; None to train without a teacher.
        tracks: the sequences to track; None for a teacher's training.
        seed: seed of the tracking.
        teacher: folder of the teacher's training, or of the network that tracks.
        freeze_adaptor_bn: freeze the adaptors' batch norm together with the network's.
        not_found: score below which the tracker does not find the target; None for the published one.
    """

    folder: str
    network: NetworkSettings | None
    training: TrainingSettings | None
    distillation: DistillationSettings | None
    tracks: Literal["validation", "test"] | None
    seed: int = 0
    teacher: str = TEACHER_RUN
    freeze_adaptor_bn: bool = False
    not_found: float | None = None


def mark_folder(root: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of all runs into their folder.

    Raises:
        DataError: the folder holds runs with other settings.
    """
    file = root / "experiment.json"
    if not file.exists():
        write_text(file, json.dumps(settings, indent=2) + "\n")
    elif json.loads(file.read_text()) != settings:
        raise DataError(f"{root}: holds runs with other settings; use another --work-dir, or remove it")


def differing_settings(here: Mapping[str, Any], there: Mapping[str, Any], fields_of_size: Iterable[str]) -> list[str]:
    """Return the names of these fields of ``Size``, and ``"pairs"``, that differ between two described experiments."""
    names = [name for name in fields_of_size if here["size"][name] != there["size"].get(name)]
    return names + (["pairs"] if here["pairs"] != there["pairs"] else [])


def teacher_run(size: Size) -> Run:
    """Return the teacher's training.

    One teacher serves all seeds and rows, as in the paper. The spread over seeds is then that of the students.
    """
    return Run(TEACHER_RUN, size.teacher_network(), size.teacher, None, None)


def teacher_tracking_run(seed: int) -> Run:
    """Return the teacher's tracking of the test sequences."""
    return Run(f"seed_{seed}/{TEACHER}", None, None, None, "test", seed)


def row_run(size: Size, name: str, seed: int, weights: Weights) -> Run:
    """Return a row's student; the seed sets its weights, its samples and the tracking's randomness."""
    row = ROWS[name]
    training, distillation = size.student_training(seed), row.distillation(weights)
    return Run(f"seed_{seed}/{name}", size.student_network(row), training, distillation, "test", seed)


def choice_run(size: Size, name: str, seed: int, trial: Weights) -> Run:
    """Return a row's student with candidate weights; it tracks the validation sequences."""
    row = ROWS[name]
    weights = f"_alpha_{trial.alpha:g}_beta_{trial.beta:g}" if row.baseline is None else f"_weight_{trial.baseline:g}"
    folder = f"choice/{name}{weights if row.parts else ''}_seed_{seed}"
    training = size.student_training(seed, size.choice_steps)
    return Run(folder, size.student_network(row), training, row.distillation(trial), "validation", seed)


def finished(run: Run, root: Path) -> bool:
    """Return whether a run is finished."""
    if run.tracks is None:
        return (root / run.folder / NETWORK).exists()
    return read_scores(run, root) is not None


def read_scores(run: Run, root: Path) -> dict[str, Any] | None:
    """Return a finished run's scores; None if it is not finished or its folder holds a run with other settings."""
    file = root / run.folder / SCORES
    if not file.exists():
        return None
    scores: dict[str, Any] = json.loads(file.read_text())
    return scores if scores["run"] == _as_json(run) else None


def write_scores(run: Run, root: Path, figures: Mapping[str, Any]) -> None:
    """Write a finished run's scores."""
    scores = {"run": _as_json(run), **figures}
    write_text(root / run.folder / SCORES, json.dumps(scores, indent=2) + "\n")


def describe_progress(run: Run, root: Path) -> str:
    """Return the progress of an unfinished run as text."""
    log = root / run.folder / "log.jsonl"
    steps = len(log.read_text().splitlines()) if log.exists() else 0
    tracked = len(list((root / run.folder / "results").glob("*.txt")))
    training = f"step {steps} of {run.training.steps}" if run.training is not None else ""
    tracking = f"{tracked} sequences tracked" if tracked else ""
    return f"{run.folder}: {', '.join(filter(None, (training, tracking))) or 'not started'}"


def _as_json(settings: Any) -> Any:
    """Return settings as JSON values; fields of ``TrainingSettings`` that do not change the result are left out."""
    if isinstance(settings, TrainingSettings):
        return json.loads(json.dumps(settings.identity()))
    if is_dataclass(settings):
        return {field.name: _as_json(getattr(settings, field.name)) for field in fields(settings)}
    return json.loads(json.dumps(settings))
