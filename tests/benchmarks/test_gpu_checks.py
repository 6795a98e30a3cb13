"""gpu_checks.sh on a CPU: tests and rows resume where the last call stopped, within their time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

TESTS = """
import os
import time
import pytest

def note(name):
    with open("ran.txt", "a") as file:
        file.write(name + " ")

@pytest.mark.parametrize("number", range(4))
def test_quick(number):
    note(f"quick{number}")
    time.sleep(0.2)

def test_fails():
    note("fails")
    assert False

def test_skips():
    note("skips")
    pytest.skip("needs another machine")

def test_hangs():
    note("hangs")
    if "HANGS" in os.environ:
        os._exit(9)

def test_last():
    note("last")
"""


class Runs:
    """Runs the tests of a file with the plugin, as gpu_checks.sh does."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "test_it.py").write_text(TESTS)

    def __call__(self, seconds: float, **environment: str) -> tuple[list[str], str]:
        """Return the tests that ran, and the last line but one of the output."""
        (self.folder / "ran.txt").write_text("")
        command = [sys.executable, "-m", "pytest", "-p", "parts.gpu.resumed_tests", "-p", "no:cacheprovider", "-q"]
        command += ["--progress-file", "progress.jsonl", "--seconds", str(seconds), "test_it.py"]
        path = {"PYTHONPATH": str(ROOT / "benchmarks")}
        found = subprocess.run(
            command, cwd=self.folder, env=path | environment, capture_output=True, text=True, check=False
        )
        return (self.folder / "ran.txt").read_text().split(), found.stdout


def test_tests_resume_after_the_time_limit_and_after_a_crash(tmp_path: Path) -> None:
    runs = Runs(tmp_path)
    ran, output = runs(0.3)
    assert ran == ["quick0", "quick1"]
    assert "tests of all runs: 0 failed, 0 skipped, 2 passed; unfinished tests: 6\n" in output
    ran, output = runs(100, HANGS="yes")
    assert ran == ["quick2", "quick3", "fails", "skips", "hangs"]
    ran, output = runs(100)
    assert ran == ["last", "hangs"]  # what may hang comes last
    assert "failed in this run or an earlier one: test_it.py::test_fails" in output
    assert "tests of all runs: 1 failed, 1 skipped, 6 passed; unfinished tests: 0\n" in output
    assert runs(100)[0] == []


@pytest.fixture
def checks(tmp_path: Path) -> list[str]:
    options = "--device cpu --width 4 --crop 64 --videos 1 2 --frames 2 --warmup 1 --rounds 1 --seconds 0"
    options += " --frame-width 96 --frame-height 80 --batch-size 2 --frames-per-sample 1 --matmul-size 16 --copy-mib 1"
    only = ["--only", "network/student, float32"]
    return [str(ROOT / "benchmarks" / "gpu_checks.sh"), str(tmp_path / "out"), "1", *options.split(), *only]


def test_the_script_writes_the_tests_and_the_rows_and_does_not_repeat_them(checks: list[str], tmp_path: Path) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}

    def run() -> str:
        return subprocess.run(checks, env=environment, capture_output=True, text=True, check=True).stdout

    first = run()
    assert "unfinished tests: 0\n" in first
    assert "unfinished rows: 0\n" in first
    report = json.loads((tmp_path / "out" / "gpu_speed.json").read_text())
    assert list(report["cpu"]["rows"]) == ["ceilings", "network/student, float32, 1", "network/student, float32, 2"]
    lines = (tmp_path / "out" / "tests.jsonl").read_text()
    assert '"outcome": "skipped"' in lines
    again = run()
    assert "tests of all runs" not in again
    assert "network/student, float32, 1: " not in again  # neither measured nor failed
    assert json.loads((tmp_path / "out" / "gpu_speed.json").read_text())["cpu"]["rows"] == report["cpu"]["rows"]


def test_without_a_gpu_the_script_says_so(checks: list[str]) -> None:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": ""}
    found = subprocess.run(checks[:3], env=environment, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stderr) == (1, "gpu_checks: expected a GPU that PyTorch can use\n")
