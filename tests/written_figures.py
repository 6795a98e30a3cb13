"""What a document says was measured, and what a benchmark's committed output holds."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def prose(document: str) -> str:
    """A document's text, its lines joined."""
    return (ROOT / document).read_text().replace("\n", " ")


def figures(document: str, name: str) -> list[str]:
    """The lines of the table that stands under a mark."""
    _, _, below = (ROOT / document).read_text().partition(f"<!-- figures: {name} -->\n\n")
    return below.partition("\n\n")[0].splitlines()


def measured(name: str) -> Any:
    """What a benchmark's output holds."""
    return json.loads((ROOT / f"benchmarks/results/{name}.json").read_text())


def ahead(by_seed: Any, row: str, base: str, figure: str) -> str:
    """By how much a row is ahead of another, seed by seed, in words."""
    claims, spread = map(importlib.import_module, ("parts.claims", "parts.spread"))
    return str(spread.with_spread(spread.mean_and_deviation(claims.differences(by_seed, row, base, figure))))
