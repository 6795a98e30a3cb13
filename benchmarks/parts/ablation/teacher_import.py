"""Use of a teacher that was trained elsewhere: a weights file, or the teacher of another folder of runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from parts.ablation.report_import import network_digest
from parts.ablation.rows import ROWS, TEACHER
from parts.ablation.runs import NETWORK, SCORES, TEACHER_RUN, Experiment, differing_settings
from parts.ablation.sizes import Size

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.training.distillation import check_networks
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import atomic_path

RECIPE = (
    *("crop_size", "teacher_width", "teacher_depth", "teacher", "video", "train_videos", "train_scenes"),
    *("train_procedural", "validation_pairs", "test_pairs"),
)
"""Fields of ``Size`` that determine the teacher, and which pairs it has not seen."""


def use_teacher(path: Path, experiment: Experiment, rows: Iterable[str]) -> Experiment:
    """Return the experiment with a teacher that was trained elsewhere, after checking that it fits.

    Args:
        path: a weights file, or a folder of runs, whose teacher must have been trained as this experiment's.
        experiment: the experiment without a given teacher.
        rows: the rows to teach.

    Raises:
        DataError: the teacher does not fit.
    """
    file = find_teacher(path)
    if path.is_dir():
        check_recipe(path, experiment)
    check_fits(file, experiment.size, rows)
    return replace(experiment, given_teacher=network_digest(file))


def find_teacher(path: Path) -> Path:
    """Return the weights file of a teacher: the path itself, or the teacher in a folder of runs.

    Raises:
        DataError: there is no such file.
    """
    file = path / TEACHER_RUN / NETWORK if path.is_dir() else path
    if not file.is_file():
        raise DataError(f"{file}: expected a teacher's weights file, got none")
    return file


def check_recipe(folder: Path, experiment: Experiment) -> None:
    """Check that the teacher of another folder of runs was trained as this experiment's.

    Raises:
        DataError: its training, video, pairs or trunk differ.
    """
    there: dict[str, Any] = json.loads((folder / "experiment.json").read_text())
    here = experiment.describe()
    differing = differing_settings(here, there, RECIPE)
    trunks = [each["teacher_trunk"] or each["trunk"] for each in (there, here)]
    differing += ["trunk"] if trunks[0] != trunks[1] else []
    if there.get("given_teacher"):
        differing.append("given_teacher")
    if differing:
        raise DataError(f"{folder}: its teacher was trained with other settings: {', '.join(differing)}")


def check_fits(file: Path, size: Size, rows: Iterable[str]) -> None:
    """Check that a teacher can teach these rows.

    Raises:
        DataError: it can not.
    """
    teacher = load_network(file)
    for name in dict.fromkeys(rows):
        if ROWS[name].parts:
            with torch.device("meta"):
                student = TrackerNetwork(size.student_network(ROWS[name]))
            check_networks(student, teacher, ROWS[name].parts)


def copy_teacher(path: Path, root: Path) -> None:
    """Copy a teacher's weights file into a folder of runs, with its tracking of the same test video if it has one.

    Args:
        path: a weights file, or a folder of runs.
        root: the folder of runs to copy to; it is marked with its experiment.

    Raises:
        DataError: the folder has another teacher.
    """
    file, target = find_teacher(path), root / TEACHER_RUN / NETWORK
    if target.exists() and network_digest(target) != network_digest(file):
        raise DataError(f"{target}: expected the weights of {file}, got others; use a new --work-dir")
    _copy_file(file, target)
    if path.is_dir():
        sizes = [json.loads((folder / "experiment.json").read_text())["size"] for folder in (path, root)]
        if all(sizes[0].get(name) == sizes[1][name] for name in ("held_out", "held_out_length")):
            for scores in path.glob(f"seed_*/{TEACHER}/{SCORES}"):
                _copy_file(scores, root / scores.relative_to(path))


def _copy_file(source: Path, target: Path) -> None:
    """Copy a file unless it is there; a copy that is interrupted leaves no target."""
    if not target.exists():
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
