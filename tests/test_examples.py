"""Tests of the examples of distillation: they run without arguments, the student learns, and few lines are marked.

``onnx_tracker.py`` has its own tests.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(set(FOLDER.glob("*.py")) - {FOLDER / "onnx_tracker.py"})
MAX_LINES = 120
RUNNER = (
    "import json, runpy, sys; "
    "history = runpy.run_path(sys.argv[1], run_name='__main__')['history']; "
    "open('history.json', 'w').write(json.dumps(history))"
)

History = list[dict[str, float]]


def run_here(name: str) -> History:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        history = runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")["history"]
    assert printed.getvalue()
    return history


def run_apart(name: str, folder: Path) -> History:
    """Run an example in its own process, because it starts processes or changes the state of its process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(FOLDER.parent)}
    command = [sys.executable, "-c", RUNNER, str(FOLDER / f"{name}.py")]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "history.json").read_text())


def assert_falls(history: History, names: Sequence[str], to: float = 0.95) -> None:
    for name in names:
        first, last = (sum(stats[name] for stats in part) / 3 for part in (history[:3], history[-3:]))
        assert last < to * first, f"{name}: {first} to {last}"
    assert all(math.isfinite(value) for stats in history for value in stats.values())


def test_a_cnn_tracker() -> None:
    history = run_here("cnn_tracker")
    assert set(history[0]) == {"loss", "specific", "common", "fusion", "penalty", "response", "total"}
    assert_falls(history, ["loss", "specific", "common", "fusion", "response", "total"])


def test_a_vit_tracker_goes_on_when_it_begins_to_eliminate() -> None:
    history = run_here("vit_tracker")
    tokens = [stats["tokens"] for stats in history]
    assert tokens[0] == 48
    assert tokens[-1] < 48
    start = tokens.index(tokens[-1])
    for part in (history[:start], history[start:]):
        assert_falls(part, ["specific", "common"], to=0.99)


def test_tir_cmd() -> None:
    assert_falls(run_here("tir_cmd"), ["classification", "box", "total"])


def test_a_classifier() -> None:
    history = run_here("classifier_review_kd")
    assert set(history[0]) == {"loss", "review", "distillation", "total"}
    assert_falls(history, ["loss", "review", "total"])


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    first, second = run_apart("ddp", tmp_path)
    assert first["reached"]  # a gradient reaches the layer that only a tap reads
    assert first["checksum"] == second["checksum"]
    assert first["history"] != second["history"]  # each rank has its own samples
    assert_falls(first["history"], ["loss", "specific", "common", "response", "total"])


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("accelerate_loop", ["accelerate"]),
        ("lightning_module", ["lightning"]),
        ("hf_trainer", ["accelerate", "transformers"]),
    ],
)
@pytest.mark.slow  # the packages take seconds to import
def test_frameworks(name: str, packages: Sequence[str], tmp_path: Path) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")
    names = ["loss"] if name == "hf_trainer" else ["loss", "specific", "common", "response", "total"]
    assert_falls(run_apart(name, tmp_path), names)


@pytest.mark.parametrize("name", ["lightning_module", "accelerate_loop", "hf_trainer"])
def test_without_its_package_an_example_prints_what_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("lightning", "accelerate", "transformers"):
        monkeypatch.setitem(sys.modules, package, None)  # import raises ImportError
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert not exit_.value.code
    assert "pip install" in printed.getvalue()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_is_short_and_marks_lines_for_distillation(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < MAX_LINES
    imports = [line for line in lines if re.match(r"\s*(from|import) mmdistill", line)]
    assert imports
    assert all(line.endswith("# distill") for line in imports)


def test_the_table_has_each_example_and_its_lines() -> None:
    table = (FOLDER / "README.md").read_text()
    rows = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|.*\| (\d+) of (\d+) \|$", table, re.MULTILINE)
    counts = {}
    for path in FILES:
        lines = path.read_text().splitlines()
        counts[path.stem] = (sum(line.endswith("# distill") for line in lines), len(lines))
    assert {name: (int(marked), int(lines)) for name, marked, lines in rows} == counts


def code(line: str) -> str:
    return line.strip().removesuffix("# distill").rstrip()


@pytest.mark.parametrize("page", sorted((FOLDER.parent / "docs").glob("in_*.md")), ids=lambda page: page.stem)
def test_a_page_quotes_its_examples(page: Path) -> None:
    """A block ``python NAME`` holds lines of that example; ``...`` stands for lines left out."""
    quoted = re.findall(r"^```python (\w+)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    assert quoted
    for name, block in quoted:
        source = "\n".join(code(line) for line in (FOLDER / f"{name}.py").read_text().splitlines())
        for part in block.split("...\n"):
            assert "\n".join(code(line) for line in part.splitlines()) in source, f"{page.name}: {part}"
