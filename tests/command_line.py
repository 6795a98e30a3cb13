"""Runs the command line in tests."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from mmdistill.cli.main import main
from mmdistill.toolkit.box_files import read_boxes, write_boxes

NAMES = ["boy`s bag", "car"]
"""The sequences of the fixture ``rgbt234``."""


def run(*arguments: object) -> int:
    """Run a command and return its exit status."""
    return main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """Run a command, expect an exit status and one line on standard error, and return the line."""
    capsys.readouterr()
    assert run(*arguments) == status
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("mmdistill: ")
    return line


def perfect_results(rgbt234: Path, folder: Path) -> Path:
    """Write the ground truth of the fixture ``rgbt234`` as results of a tracker."""
    for name in NAMES:
        write_boxes(folder / f"Some_{name}.txt", read_boxes(rgbt234 / name / "visible.txt"))
    return folder


def lasher_copy(root: Path, names: Sequence[str]) -> list[object]:
    """Write annotations and perfect results of some sequences; return the options of ``score``."""
    for name in names:
        for folder in ("annos", "mine"):
            write_boxes(root / folder / f"{name}.txt", [[10 + k, 20, 8, 6] for k in range(3)])
    return ["--benchmark", "lasher", "--annotations", root / "annos", "--results", root / "mine"]
