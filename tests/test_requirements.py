"""What is required is pinned twice: to what was developed with, and to the lowest that works."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import mmdistill

ROOT = Path(__file__).resolve().parents[1]
# torch and the integrations are gigabytes; what builds, checks and documents is not part of the package.
NEVER_LOWERED = {"torch", "accelerate", "lightning", "transformers", "hatchling", "ruff", "mypy", "pre-commit"}
NEVER_LOWERED |= {"PySide6-Essentials"}  # needs a screen
NEVER_LOWERED |= {"mkdocs", "mkdocs-material", "mkdocstrings-python", "latex2mathml", "build", "twine"}


def lower_bounds() -> list[tuple[str, str]]:
    return re.findall(r'"([\w-]+)>=([\w.]+)"', (ROOT / "pyproject.toml").read_text())


def pins(file: str) -> dict[str, str]:
    lines = (ROOT / file).read_text().splitlines()
    return dict(re.fullmatch(r"([\w-]+)==([\w.]+)( ;.*)?", line).groups()[:2] for line in lines if line[:1] != "#")


def test_every_lower_bound_is_installed_by_the_lowest_step() -> None:
    named = re.findall(r"numpy==[\d.]+", (ROOT / ".ci/lowest").read_text())
    lowest = {(name, version) for name, version in pins("constraints-lowest.txt").items()}
    lowest |= {("numpy", pin.removeprefix("numpy==")) for pin in named}
    wanted = [(name, bound) for name, bound in lower_bounds() if name not in NEVER_LOWERED]
    assert {"numpy", "einops", "onnxscript", "pytest"} <= {name for name, _ in wanted}
    for name, bound in wanted:
        assert any(name == pinned and f"{version}.".startswith(f"{bound}.") for pinned, version in lowest), name


def test_the_version_is_that_of_the_package() -> None:
    assert re.search(r'^dynamic = \["version"\]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert metadata.version("mmdistill") == mmdistill.__version__


def test_torch_is_the_same_in_both() -> None:
    assert pins("constraints-lowest.txt")["torch"] == pins("constraints.txt")["torch"]


def test_everything_required_is_pinned_for_the_tests() -> None:
    required = {name for name, _ in lower_bounds()} - {"hatchling"}
    assert required <= pins("constraints.txt").keys()


def test_the_whole_check_has_the_lowest_step() -> None:
    assert any(line.split()[:1] == [".ci/lowest"] for line in (ROOT / ".ci/run").read_text().splitlines())


@pytest.mark.parametrize("script", ["run", "lowest", "nightly", "tests", "lint", "docs", "build"])
def test_the_scripts_are_sound(script: str) -> None:
    path = ROOT / ".ci" / script
    assert "set -euo pipefail" in path.read_text().splitlines()
    assert path.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", path], check=True)


def test_the_lowest_step_says_which_bounds_it_does_not_test(tmp_path: Path) -> None:
    def report(root: Path) -> list[set[str]]:
        script = [sys.executable, ROOT / ".ci/bounds.py", root]
        lines = subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()
        assert [line.partition(": ")[0] for line in lines] == ["Lower bounds tested", "Lower bounds NOT tested"]
        return [set(line.partition(": ")[2].split(", ")) for line in lines]

    tested, untested = report(ROOT)
    bounds = dict(lower_bounds())
    assert f"torch {bounds['torch']} (tested with {pins('constraints-lowest.txt')['torch']})" in untested
    assert {each.split()[0] for each in untested} <= NEVER_LOWERED
    found = tested | {" ".join(each.split()[:2]) for each in untested}
    assert found == {f"{name} {bound}" for name, bound in lower_bounds()}

    # Where torch's bound can be installed, it counts as tested.
    (tmp_path / ".ci").mkdir()
    for name in ("pyproject.toml", ".ci/lowest", "constraints-lowest.txt"):
        text = re.sub(r"^torch==.*", f"torch=={bounds['torch']}.0", (ROOT / name).read_text(), flags=re.MULTILINE)
        (tmp_path / name).write_text(text)
    assert f"torch {bounds['torch']}" in report(tmp_path)[0]
    lines = (ROOT / ".ci/lowest").read_text().splitlines()
    assert [line for line in lines if line.endswith(".ci/bounds.py")] == ["python3 .ci/bounds.py"] * 2
    assert lines[-1] == "python3 .ci/bounds.py"
