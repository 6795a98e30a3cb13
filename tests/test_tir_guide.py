"""The page on TIR: its guide runs as a whole, and its table is the settings."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from mmdistill.tir_cmd import SETTINGS, BranchSetting

PAGE = Path(__file__).resolve().parents[1] / "docs/tir.md"


@pytest.fixture(scope="module")
def guide() -> dict[str, Any]:
    """What the guide's blocks leave behind after they ran in order."""
    namespace: dict[str, Any] = {"__name__": "tir_guide"}
    torch.set_num_threads(1)
    for block in re.findall(r"^```python guide\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE):
        exec(compile(block, PAGE.name, "exec"), namespace)
    return namespace


def test_distilling_helps_on_tir_and_moves_only_what_it_should(guide: dict[str, Any]) -> None:
    assert guide["after"]["tcl"] < 0.8 * guide["before"]["tcl"]
    assert guide["after"]["bbe"] < 0.8 * guide["before"]["bbe"]
    before, after = guide["tracker"].state_dict(), guide["student"].state_dict()
    moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"filter", "scored", "reference_map", "test_map", "predictor"}


@pytest.mark.parametrize("name", [name for name, row in SETTINGS.items() if row.trained])
def test_every_setting_goes_through_the_guide(guide: dict[str, Any], name: str) -> None:
    row, tracker = SETTINGS[name], guide["copy"].deepcopy(guide["tracker"])
    before = {name: value.clone() for name, value in tracker.state_dict().items()}
    guide["train"](tracker, row, guide["trained_parts"](tracker, row), steps=2, rate=1e-3)
    moved = {name.split(".")[0] for name, value in tracker.state_dict().items() if not torch.equal(value, before[name])}
    expected = {
        ("bbe", "reference"): {"reference_map"},
        ("bbe", "test"): {"test_map", "predictor"},
        ("tcl", "reference"): {"filter"},
        ("tcl", "test"): {"scored"},
    }
    assert moved == set().union(*(expected[module, branch] for module in row.updated for branch in row.fine_tuned))


def cells(row: BranchSetting) -> str:
    """A row as the page has it."""
    seen = [
        getattr(row, branch).upper() + (", learns" if branch in row.fine_tuned else "")
        for branch in ("reference", "test")
    ]
    rates = ["" if rate is None else f"{rate:g}" for rate in (row.learning_rates.bbe, row.learning_rates.tcl)]
    begins = {
        "A1": "the tracker that is given",
        "B3": "BBE's reference part of B1, its test part of B2",
        "D": "BBE of B3, TCL of C1",
    }
    begin = begins.get(row.name, begins.get(row.name[0], "A1"))
    updated = ", ".join(module.upper() for module in row.updated) or "none"
    return " ".join(f"| {row.name} | {updated} | {' | '.join([*seen, row.patches or '', *rates, begin])} |".split())


def test_the_table_is_the_settings() -> None:
    _, _, below = PAGE.read_text().partition("<!-- figures: branch_settings -->\n\n")
    written = [" ".join(line.split()) for line in below.partition("\n\n")[0].splitlines()[2:]]
    assert written == [cells(row) for row in SETTINGS.values()]
