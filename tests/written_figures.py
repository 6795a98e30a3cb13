"""What a document says was measured, and what a benchmark's committed output holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def figures(document: str, name: str) -> list[str]:
    """The lines of the table that stands under a mark."""
    _, _, below = (ROOT / document).read_text().partition(f"<!-- figures: {name} -->\n\n")
    return below.partition("\n\n")[0].splitlines()


def measured(name: str) -> Any:
    """What a benchmark's output holds."""
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())
