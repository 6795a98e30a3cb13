"""The counter of operations, bytes and host reads."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class Step:
    def __init__(self) -> None:
        self.weight = torch.ones(4, 3, requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weight.t()).view(-1).sum()  # two operations: views are left out


def test_operations_bytes_and_reads_are_counted_in_their_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    count_phases = importlib.import_module("parts.gpu.phases").count_phases
    step, x, read = Step(), torch.ones(2, 3), []

    def call() -> None:
        total = step.forward(x)
        total.backward()  # type: ignore[no-untyped-call]
        read.append(total.item())
        step.weight.data.add_(1)

    counts = count_phases(call, {"forward": [(step, "forward")], "backward": [(Tensor, "backward")]})
    report = counts.report()
    assert read == [24.0]
    product, total = 4 * (2 * 3 + 4 * 3 + 2 * 4), 4 * (2 * 4 + 1)
    assert report["forward"] == {
        "operations": 2, "bytes": product + total, "roofline bytes": product, "host reads": 0
    }  # fmt: skip
    assert report["backward"]["operations"] == 2  # ones_like and mm; expand is a view
    assert report["backward"]["roofline bytes"] == product
    assert report["checks"] == {"operations": 1, "bytes": 2 * 4 * 12, "roofline bytes": 0, "host reads": 1}
    assert report["all"]["operations"] == 5
    assert "forward" not in vars(step)
    assert "backward" in vars(Tensor)


def test_after_the_change_no_count_depends_on_the_sizes() -> None:
    report = json.loads((BENCHMARKS / "results" / "step_counts.json").read_text())
    assert not [name for name, row in report.get("after", {"rows": {}})["rows"].items() if row["depends on sizes"]]
