"""What is required is pinned twice: to what was developed with, and to the lowest that works."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEVER_LOWERED = {"torch", "hatchling", "ruff", "mypy"}


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


def test_torch_is_the_same_in_both() -> None:
    assert pins("constraints-lowest.txt")["torch"] == pins("constraints.txt")["torch"]


def test_everything_required_is_pinned_for_the_tests() -> None:
    required = {name for name, _ in lower_bounds()} - {"hatchling"}
    assert required <= pins("constraints.txt").keys()


def test_the_whole_check_has_the_lowest_step() -> None:
    assert ".ci/lowest" in (ROOT / ".ci/run").read_text().splitlines()


@pytest.mark.parametrize("script", ["run", "lowest", "nightly"])
def test_the_scripts_are_sound(script: str) -> None:
    path = ROOT / ".ci" / script
    assert "set -euo pipefail" in path.read_text().splitlines()
    assert path.stat().st_mode & 0o100
    subprocess.run(["bash", "-n", path], check=True)
