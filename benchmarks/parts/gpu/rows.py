"""Rows of gpu_speed.py: the function that measures each, and their storage on disk."""

from __future__ import annotations

import gc
import hashlib
import json
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from parts.gpu.cmd_step import CMDStepSpeed
from parts.gpu.experiment import PRECISIONS, Experiment
from parts.gpu.network import NetworkSpeed
from parts.gpu.roofline import ceilings
from parts.gpu.tracking import TrackingSpeed
from parts.gpu.training import FROM_HOST, PARTS, STUDENT_ALONE, TEACHER, WITH_TEACHER, TrainingSpeed

from mmdistill.toolkit.io import write_text

Row = Callable[[], dict[str, Any]]
"""Measures a row and returns its figures."""

DEFAULT_ROW_LIMIT = 60.0
"""Most seconds of a row."""

MIN_ROW_SECONDS = 2.0
"""Time that a row has at least, when it starts just before the end."""

FIRST = (
    "ceilings",
    # The targets.
    "tracking/student, bfloat16, 1",
    "tracking/student, bfloat16, 32",
    f"training/{STUDENT_ALONE}, bfloat16",
    "training/all, bfloat16",
    # Ratios within one run, which need no other code to compare with.
    "cmd step/",
    "network/student, bfloat16, 1",
    "experiments/CUDA graph, 1",
    "network/student, bfloat16, 32",
    "experiments/CUDA graph, 32",
    "tracking/student without CUDA graphs",
    "profile/",
    "tracking/student, float32, 1",
    "tracking/student, float32, 32",
    "tracking/student",
    "training/",
    "tracking/",
    "network/student",
    "network/",
    "experiments/CUDA graph",
)
"""Names of rows, or their beginnings up to a comma or slash, most important first."""


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
                if self.read(name) is None:
                    self.write(name, row)

    def _path(self, name: str) -> Path:
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)
        return self._folder / f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


class RowTimeoutError(Exception):
    """A row takes longer than its limit."""


def measure(
    rows: Mapping[str, Row],
    store: RowStore,
    end: float,
    *,
    row_limit: float = DEFAULT_ROW_LIMIT,
    after_row: Callable[[], object] = lambda: None,
) -> tuple[dict[str, Any], list[str]]:
    """Measure missing rows until a time; return all measured rows, and the names of the unfinished ones.

    A row that fails is printed, and measured again by the next command, after all rows that never failed.

    Args:
        rows: the rows in order of importance.
        store: the stored rows.
        end: time of ``time.monotonic()`` at which no further row starts. A row that runs then is stopped.
        row_limit: most seconds of a row; a row that takes longer has failed.
        after_row: called after each row.
    """
    results: dict[str, Any] = {}
    unfinished = []
    names = sorted(rows, key=lambda name: "failed" in (store.read(name) or {}))
    for name in names:
        measured = store.read(name)
        if measured is None or "failed" in measured:
            start = time.monotonic()
            if start > end:
                unfinished.append(name)
                continue
            limit = min(row_limit, max(end - start, MIN_ROW_SECONDS))
            try:
                with _alarm(limit):
                    measured = rows[name]()
            except RowTimeoutError:
                if limit < row_limit:  # it was the command's time, not the row's
                    unfinished.append(name)
                    continue
                measured = {"failed": f"longer than {row_limit:g} s"}
            except Exception as error:  # an error in one row must not stop the others
                message = str(error).partition("\n")[0][:200]
                measured = {"failed": f"{type(error).__name__}: {message}"}
            finally:
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            store.write(name, measured)
            print(f"{name}: {measured.get('failed') or f'{time.monotonic() - start:.1f} s'}", flush=True)
            after_row()
        results[name] = measured
    return results, unfinished


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise ``RowTimeoutError`` inside after some seconds. A call into C++ is finished first."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise RowTimeoutError

    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def by_importance(names: Iterable[str]) -> list[str]:
    """Return the names of rows in order of importance; equally important ones keep their order."""

    def rank(name: str) -> int:
        matches = (name == each or name.startswith(each if each[-1] == "/" else f"{each},") for each in FIRST)
        return next((index for index, match in enumerate(matches) if match), len(FIRST))

    return sorted(names, key=rank)


def rows(experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> dict[str, Row]:
    """Return each row's function by name, in the order of the tables.

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
    if experiment.device == "cuda":
        for count in counts[:3:2]:
            functions[f"tracking/student without CUDA graphs, bfloat16, {count}"] = partial(
                tracking.rate, "student", "bfloat16", count, captured=False
            )
    for precision in PRECISIONS:
        functions[f"cmd step/{precision}"] = partial(CMDStepSpeed(experiment).rate, precision)
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
