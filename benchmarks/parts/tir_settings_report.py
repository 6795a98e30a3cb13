"""Tables of TIR-CMD's settings over seeds, and the paper's claims."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from parts.seed_statistics import (
    BySeed,
    Claim,
    differences,
    format_mean,
    mean_and_deviation,
    paired_sequences,
    sequence_standard_error,
    verdicts,
)

from mmdistill.reference.training.tir_cmd.runs import START_SETTING
from mmdistill.tir_cmd import SETTINGS

FIGURES = ("SR", "PR", "NPR")

ON_RGB = "on RGB"
"""Row of the initial network on the RGB sides."""

ROWS = (*SETTINGS, ON_RGB)

PAPER: Mapping[str, tuple[float, float, float]] = {
    "A1": (66.2, 78.7, 70.7),
    "B1": (67.4, 80.4, 72.1),
    "B2": (67.2, 80.1, 71.9),
    "B3": (67.8, 80.8, 72.5),
    "C1": (67.7, 80.7, 72.5),
    "D1": (67.1, 79.7, 71.8),
    "D2": (67.6, 80.6, 72.3),
    "D3": (68.0, 80.8, 72.7),
    "D4": (67.3, 80.2, 72.1),
    "D5": (67.5, 80.4, 72.3),
}
"""SR, PR and NPR on LSOTB-TIR as published."""

CLAIMS: tuple[Claim, ...] = (
    ("BBE: learning on the reference branch helps", "B1", START_SETTING),
    ("BBE: learning on the test branch helps", "B2", START_SETTING),
    ("BBE: the reference branch gains more", "B1", "B2"),
    ("BBE: together they gain most, more than B1", "B3", "B1"),
    ("BBE: together they gain most, more than B2", "B3", "B2"),
    ("TCL helps", "C1", START_SETTING),
    ("TCL gains more than a branch of BBE, B1", "C1", "B1"),
    ("TCL gains more than a branch of BBE, B2", "C1", "B2"),
    ("Joint learning on the test branch helps", "D1", START_SETTING),
    ("Joint learning on the reference branch helps", "D2", START_SETTING),
    ("Joint learning on both helps", "D3", START_SETTING),
    ("Both beat the test branch", "D3", "D1"),
    ("Both beat the reference branch", "D3", "D2"),
    ("Both beat what they begin with, B3", "D3", "B3"),
    ("Both beat what they begin with, C1", "D3", "C1"),
    ("Central patches beat random ones", "D3", "D4"),
    ("Central patches beat detected ones", "D3", "D5"),
    ("Detected patches beat random ones", "D5", "D4"),
)
"""Claims of the paper about its Table 1."""


def summary(by_seed: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return mean and deviation over seeds of each figure and of its difference to A1, by setting and kind.

    A difference also has its standard error over sequences, with each sequence's mean over seeds.

    Args:
        by_seed: results of ``measure`` by seed, setting and kind; seeds without A1 do not count for differences.
    """
    names = [name for name in ROWS if any(name in settings for settings in by_seed.values())]
    rows: dict[str, Any] = {}
    for name in names:
        seeds = [seed for seed, settings in by_seed.items() if name in settings]
        rows[name] = {"seeds": seeds}
        for kind in by_seed[seeds[0]][name]:
            rows[name][kind] = {}
            figures = _figures(by_seed, kind)
            sequences = paired_sequences(figures, name, START_SETTING)
            for figure in FIGURES:
                gains = differences(figures, name, START_SETTING, figure)
                rows[name][kind][figure] = mean_and_deviation([figures[str(seed)][name][figure] for seed in seeds])
                rows[name][kind][f"{figure} to A1"] = mean_and_deviation(gains) if gains else None
                error = sequence_standard_error(sequences, figure)
                rows[name][kind][f"{figure} to A1, error over sequences"] = error
    return rows


def _figures(by_seed: Mapping[int, Mapping[str, Mapping[str, Any]]], kind: str) -> BySeed:
    """Return the figures of a kind by seed and setting, overall and by sequence."""
    return {
        str(seed): {
            name: by_kind[kind]["overall"] | {"sequences": by_kind[kind]["sequences"]}
            for name, by_kind in rows.items()
            if kind in by_kind
        }
        for seed, rows in by_seed.items()
    }


def evaluate_claims(by_seed: Mapping[int, Mapping[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """Return the verdicts on the paper's claims, on the composed sequences only; the real ones are too few."""
    return verdicts(CLAIMS, _figures(by_seed, "composed"), FIGURES)


def table(report: Mapping[str, Any], kind: str = "composed") -> list[str]:
    """Return the lines of a Markdown table like the paper's Table 1, with the difference to A1 in brackets.

    Only composed sequences have an error over sequences and the paper's figures; the real ones are too few.
    """
    many = kind == "composed"
    columns = [*(f"{figure} (to A1)" for figure in FIGURES), *(("SR to A1, error", "paper, SR/PR/NPR") if many else ())]
    lines = [
        f"| Setting | Updated | Reference branch | Test branch | {' | '.join(columns)} |",
        "| --- " * 4 + "| ---: " * len(columns) + "|",
    ]
    for name, row in report["settings"].items():
        if kind not in row:
            continue
        cells = row_cells(name)
        for figure in FIGURES:
            gain = row[kind][f"{figure} to A1"]
            difference = "" if gain is None or name == START_SETTING else f" ({format_mean(gain, '+')})"
            cells.append(format_mean(row[kind][figure]) + difference)
        if many:
            error = row[kind]["SR to A1, error over sequences"]
            cells.append("" if error is None or name == START_SETTING else f"{error:.1f}")
            cells.append("/".join(map(str, PAPER.get(name, ()))))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def losses_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of each setting's losses in the first and last steps, means over seeds."""
    seeds = report["loss, first and last steps"].values()
    lines = ["| Setting | box, first and last steps | classification, first and last steps |", "| --- | ---: | ---: |"]
    for name in SETTINGS:
        trained = [seed[name] for seed in seeds if name in seed]
        if not trained:
            continue
        cells = [
            _first_and_last([each[term] for each in trained if term in each]) for term in ("box", "classification")
        ]
        lines.append(f"| {' | '.join([name, *cells])} |")
    return lines


def _first_and_last(ends: Sequence[Sequence[float]]) -> str:
    return ", ".join(f"{statistics.mean(each):.3g}" for each in zip(*ends, strict=True))


def row_cells(name: str) -> list[str]:
    """Return a row's title, updated parts, and the branches' modalities."""
    if name == ON_RGB:
        return ["A1 on the RGB sides", "none", "RGB", "RGB"]
    row = SETTINGS[name]
    sides = [
        modality.upper() + (" (ft)" if branch in row.fine_tuned else "")
        for branch, modality in (("reference", row.reference), ("test", row.test))
    ]
    return [f"{name} {row.title}", " and ".join(row.updated).upper().replace("AND", "and") or "none", *sides]
