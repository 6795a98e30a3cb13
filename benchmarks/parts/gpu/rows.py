"""Rows of gpu_speed.py: the function that measures each, and their storage on disk."""

from __future__ import annotations

import gc
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from parts.gpu.experiment import PRECISIONS, Experiment
from parts.gpu.network import NetworkSpeed
from parts.gpu.roofline import ceilings
from parts.gpu.tracking import TrackingSpeed
from parts.gpu.training import FROM_HOST, PARTS, STUDENT_ALONE, TEACHER, WITH_TEACHER, TrainingSpeed

from mmdistill.toolkit.io import write_text

Row = Callable[[], dict[str, Any]]
"""Measures a row and returns its figures."""


class RowStore:
    """Stores each row in a file. Rows of another experiment or machine are ignored.

    Args:
        folder: the folder of the files.
        identity: the experiment and the machine.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self._folder, self._identity = folder, json.loads(json.dumps(identity))

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a row; None if it is not stored."""
        path = self._path(name)
        if not path.exists():
            return None
        content = json.loads(path.read_text())
        row: dict[str, Any] = content["row"]
        return row if content["identity"] == self._identity else None

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Store a row."""
        write_text(
            self._path(name), json.dumps({"identity": self._identity, "name": name, "row": row}, indent=2) + "\n"
        )

    def import_report(self, report: Mapping[str, Any]) -> None:
        """Store the rows of a report of the same experiment and machine."""
        machine = {key: value for key, value in report.get("machine", {}).items() if key != "date"}
        if {"experiment": report.get("experiment"), "machine": machine} == self._identity:
            for name, row in report["rows"].items():
                if "failed" not in row and self.read(name) is None:
                    self.write(name, row)

    def _path(self, name: str) -> Path:
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)
        return self._folder / f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


def measure(rows: Mapping[str, Row], store: RowStore, minutes: float) -> tuple[dict[str, Any], list[str]]:
    """Measure missing rows until the time limit; return all measured rows, and the names of the unfinished ones.

    A row that fails is printed, and measured again by the next command.
    """
    end = time.monotonic() + 60 * minutes
    results: dict[str, Any] = {}
    unfinished = []
    for name, row in rows.items():
        measured = store.read(name)
        if measured is None:
            if time.monotonic() > end:
                unfinished.append(name)
                continue
            start = time.monotonic()
            try:
                measured = row()
            except Exception as error:  # an error in one row must not stop the others
                message = str(error).partition("\n")[0][:200]
                results[name] = {"failed": f"{type(error).__name__}: {message}"}
                print(f"{name}: {results[name]['failed']}", flush=True)
                continue
            finally:
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            store.write(name, measured)
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        results[name] = measured
    return results, unfinished


def rows(experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> dict[str, Row]:
    """Return each row's function by name, in the order of measurement.

    Args:
        experiment: the settings.
        ceiling: returns the row of the ceilings.
    """
    tracking, network, training = (
        TrackingSpeed(experiment),
        NetworkSpeed(experiment, ceiling),
        TrainingSpeed(experiment, ceiling),
    )
    counts = experiment.videos
    functions: dict[str, Row] = {"ceilings": partial(_ceilings, experiment)}
    for name in ("student", "teacher"):
        for precision in PRECISIONS:
            for count in counts:
                functions[f"tracking/{name}, {precision}, {count}"] = partial(tracking.rate, name, precision, count)
    for part in (STUDENT_ALONE, *PARTS, WITH_TEACHER, FROM_HOST, TEACHER):
        for precision in PRECISIONS:
            functions[f"training/{part}, {precision}"] = partial(training.rate, part, precision)
    for name in ("student", "teacher"):
        for precision in PRECISIONS:
            for count in counts:
                functions[f"network/{name}, {precision}, {count}"] = partial(network.rate, name, precision, count)
    for count in counts[:3:2]:
        functions[f"profile/tracking student, bfloat16, {count}"] = partial(tracking.profile, count)
    for part in (STUDENT_ALONE, "all", WITH_TEACHER):
        functions[f"profile/training {part}, bfloat16"] = partial(training.profile, part)
    changes = ["channels last", "weights in bfloat16"]
    if experiment.device == "cuda":
        changes += ["CUDA graph", "compiled", "all three"]
    for change in changes:
        for count in counts[:3]:
            functions[f"experiments/{change}, {count}"] = partial(network.rate, "student", "bfloat16", count, change)
    return functions


def _ceilings(experiment: Experiment) -> dict[str, Any]:
    return ceilings(
        experiment.torch_device,
        size=experiment.matmul_size,
        copy_bytes=experiment.copy_mib << 20,
        seconds=experiment.seconds,
    )
