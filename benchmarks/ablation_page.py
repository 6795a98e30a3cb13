"""Writes the tables of docs/how_far_from_the_paper.md from the committed reports.

A table follows the mark ``<!-- figures: NAME -->`` on the page. Tables without a mark on the page are not written.

Example:
    python benchmarks/ablation_page.py
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ablation_causes
import ablation_thresholds
import paper_hours
from parts.ablation import report, sizes
from parts.ablation.rows import CLAIMS, TABLES, TEACHER
from parts.crossed_statistics import claims_table

from mmdistill.toolkit.io import write_text

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "how_far_from_the_paper.md"
MARK = "<!-- figures: {} -->\n\n"

Pairs = Sequence[tuple[str, str]]

FUSIONS: Pairs = [(row, "scfd") for row in ("saf", "caf", "tf", "scfd_mpsd")]
"""Table 3's rows, and the row that they are compared with."""

PARTS: Pairs = [("scfd", "student"), ("scfd_mpsd", "scfd_blocks"), ("mpsd", "blocks"), ("scfd_blocks", "scfd")]

CONTROLS: Mapping[str, Pairs] = {
    "pretrained": [],
    "slower": [("cmd", "student"), ("cmd", "scfd")],
    "longer": [("cmd", "student")],
    "beta": [("cmd", "student"), ("cmd", "scfd_mpsd"), ("hfrd", "student")],
    "gpu": [("cmd", "student"), ("scfd", "student"), ("cmd", "scfd")],
    "nightly": [("cmd", "student"), ("scfd_mpsd", "student"), ("cmd", "scfd_mpsd")],
}
"""Reports of the controls, and the comparisons on the page."""


def read_report(name: str) -> Any:
    """Return a committed report."""
    return json.loads((RESULTS / f"{name}.json").read_text())


def table_of_claims(results: Mapping[str, Any], only: str = "") -> list[str]:
    """Return the table of the claims whose text ends with ``only``."""
    return claims_table([claim for claim in CLAIMS if claim[0].endswith(only)], {"": results}, report.METRICS)


def regime_tables(title: str, results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return all tables of an experiment in one regime; their names start with the title."""
    result = {f"{title} {name}": report.table(results, name) for name in TABLES}
    return result | {
        f"{title} choice": report.choice_table(results),
        f"{title} claims": table_of_claims(results),
        f"{title} 3 intervals": report.intervals_table(results["by seed"], FUSIONS),
        f"{title} single parts": report.intervals_table(results["by seed"], PARTS),
    }


def tables() -> dict[str, list[str]]:
    """Return the lines of the page's tables by the name in their mark."""
    full, single, pretrained, causes, hours = map(
        read_report, ("ablation", "ablation_single", "ablation_pretrained", "ablation_causes", "paper_hours")
    )
    result = regime_tables("ablation", full) | regime_tables("ablation pretrained", pretrained)
    result |= {
        "ablation_sizes": sizes.table(),
        "ablation regimes": claims_table(
            CLAIMS, {"Compact student": full, "ImageNet student": pretrained}, report.METRICS
        ),
        "ablation choice": report.choice_table(single),
        "ablation single": report.table(single, "single"),
        "ablation single claims": table_of_claims(single, "alone"),
        "ablation single parts": report.intervals_table(single["by seed"], PARTS),
        "ablation_causes": ablation_causes.table(causes),
        "ablation_causes scores": ablation_causes.confidence_table(causes),
        "paper_hours": paper_hours.table(hours),
        "paper_hours evaluation": paper_hours.evaluation_table(hours),
    }
    for name, pairs in CONTROLS.items():
        control = read_report(f"ablation_{name}")
        rows = [row for row in control["rows"] if row != TEACHER]
        result[f"ablation {name}"] = report.rows_table(control, rows)
        if pairs:
            result[f"ablation {name} intervals"] = report.intervals_table(control["by seed"], pairs)
    for name in ("ablation_thresholds", "ablation_thresholds_pretrained"):
        if (RESULTS / f"{name}.json").exists():
            result[name] = ablation_thresholds.table(read_report(name))
    return result


def replace_tables(text: str, lines_of: Mapping[str, Sequence[str]]) -> str:
    """Return a page's text with the tables in place of those after their marks."""
    for name, lines in lines_of.items():
        before, mark, after = text.partition(MARK.format(name))
        if mark:
            text = before + mark + "\n".join(lines) + "\n\n" + after.partition("\n\n")[2]
    return text.rstrip("\n") + "\n"


def main(write: Callable[[Path, str], object] = write_text) -> None:
    write(PAGE, replace_tables(PAGE.read_text(), tables()))


if __name__ == "__main__":
    main()
