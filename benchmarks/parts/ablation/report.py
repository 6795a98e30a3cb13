"""Tables and plot of the ablation's report."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from parts.ablation.rows import CMD, ROWS, STUDENT, TABLES, TEACHER, TEACHER_PAPER
from parts.crossed_statistics import compare
from parts.seed_statistics import BySeed, differences, format_bounds, format_mean, mean_and_deviation

from mmdistill.toolkit.evaluation.plots import PLOT_COLORS
from mmdistill.toolkit.io import atomic_path

FIGURES = ("PR", "NPR", "SR")
METRICS = ("PR", "SR")

MIN_GAP = 1.0
"""Smallest gap between teacher and student, in points, of which shares are given."""


def reported_scores(scores: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return a run's scores for the report: those of each sequence as a list by figure, in the order of the names."""
    reported = {name: value for name, value in scores.items() if name != "run"}
    by_sequence = scores["sequences"]
    return reported | {
        "sequences": {figure: [round(by_sequence[name][figure], 2) for name in names] for figure in FIGURES}
    }


def read_sequences(report: Mapping[str, Any], scores: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return each sequence's figures by name from a report's scores of a run."""
    values = scores["sequences"]
    return {
        name: {figure: values[figure][number] for figure in FIGURES} for number, name in enumerate(report["sequences"])
    }


def compact_json(report: Mapping[str, Any]) -> str:
    """Return a report as indented JSON, with each list of numbers on one line."""
    text = json.dumps(report, indent=2)
    return re.sub(r"\[\s+([-+.\deE,\s]+?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text)


def summary(by_seed: BySeed) -> dict[str, Any]:
    """Return each row's figures over seeds, its gains on its base and on the student, and the share of the gap closed.

    Every figure is a mean and a standard deviation. Gains and shares are taken for each seed. The gap is from the
    row's base to the teacher. Gains and shares are None if a seed lacks one of the rows. Shares are also None if the
    gap is below ``MIN_GAP`` for a seed.
    """
    rows: dict[str, Any] = {}
    for name in (TEACHER, *ROWS):
        seeds = [seed for seed, rows_of_seed in by_seed.items() if name in rows_of_seed]
        if not seeds:
            continue
        base = base_of(name, by_seed)
        rows[name] = {"seeds": seeds, "base": base}
        for figure in FIGURES:
            rows[name][figure] = mean_and_deviation([by_seed[seed][name][figure] for seed in seeds])
            to_student = differences(by_seed, name, STUDENT, figure)
            complete = len(to_student) == len(seeds)
            rows[name][f"{figure} to student"] = mean_and_deviation(to_student) if complete else None
            gains, shares = differences(by_seed, name, base, figure), _gap_shares(by_seed, seeds, name, base, figure)
            rows[name][f"{figure} to base"] = mean_and_deviation(gains) if len(gains) == len(seeds) else None
            rows[name][f"{figure} gap closed"] = mean_and_deviation(shares) if shares else None
    return rows


def base_of(name: str, by_seed: BySeed) -> str:
    """Return the row with which a row is compared: its base, or the student if a seed of the row lacks the base."""
    base = ROWS[name].base if name != TEACHER else ""
    complete = base and all(base in rows for rows in by_seed.values() if name in rows)
    return base if complete else STUDENT


def _gap_shares(by_seed: BySeed, seeds: Sequence[str], name: str, base: str, figure: str) -> list[float]:
    """Return the share of the gap that a row closes for each seed, percent; empty if it is not defined for all."""
    if not all({TEACHER, base} <= by_seed[seed].keys() for seed in seeds):
        return []
    gaps = [by_seed[seed][TEACHER][figure] - by_seed[seed][base][figure] for seed in seeds]
    gains = differences({seed: by_seed[seed] for seed in seeds}, name, base, figure)
    return [100 * gain / gap for gain, gap in zip(gains, gaps, strict=True)] if min(gaps) >= MIN_GAP else []


def table(report: Mapping[str, Any], name: str) -> list[str]:
    """Return the lines of a Markdown table: one of the paper's tables, with the published figures."""
    return rows_table(report, TABLES[name])


def rows_table(report: Mapping[str, Any], rows: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table of the teacher and these rows.

    Gains and the share of the gap that is closed are against the row in the column "Base". Rows that neither the paper
    nor the report has are left out.
    """
    lines = [
        "| Tracker | PR | SR | Base | PR gain | SR gain | Gap closed, PR | Gap closed, SR | On Student, PR/SR "
        "| Paper, PR/SR |",
        "| --- | ---: | ---: | --- |" + " ---: |" * 6,
    ]
    measured = summary(report["by seed"])
    for row in (TEACHER, *rows):
        title, paper = ("Teacher", TEACHER_PAPER) if row == TEACHER else (ROWS[row].title, ROWS[row].paper)
        published = f"{paper[0]:.1f}/{paper[1]:.1f}" if paper else ""
        if row in measured:
            lines.append(f"| {' | '.join([title, *_row_cells(row, measured[row]), published])} |")
        elif paper:
            lines.append(f"| {' | '.join([title, *['not measured'] * 2, *[''] * 6, published])} |")
    return lines


def _row_cells(row: str, figures: Mapping[str, Any]) -> list[str]:
    cells = [format_mean(figures[figure]) for figure in METRICS]
    if row == STUDENT:
        return [*cells, *[""] * 6]
    on_student = [figures[f"{figure} to student"] for figure in METRICS]
    against_student = "/".join(f"{gain[0]:+.1f}" for gain in on_student if gain is not None)
    if row == TEACHER or not ROWS[row].base:  # nothing was added to another row
        return [*cells, *[""] * 5, against_student]
    cells.append(ROWS[figures["base"]].title)
    cells += [_cell(figures[f"{figure} to base"], "+") for figure in METRICS]
    cells += [_cell(figures[f"{figure} gap closed"], unit=" %") for figure in METRICS]
    return [*cells, against_student]


def intervals_table(by_seed: BySeed, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a Markdown table of differences between rows, with 95 % intervals.

    Args:
        by_seed: figures by seed and row; at least two seeds.
        pairs: each row and the row to compare it with.
    """
    lines = [f"| Difference | {' | '.join(METRICS)} |", "| --- |" + " --- |" * len(METRICS)]
    for name, base in pairs:
        cells = [" minus ".join(ROWS[row].title.removeprefix("+ ") for row in (name, base))]
        for figure in METRICS:
            interval = compare(by_seed, name, base, figure)
            cells.append("" if interval is None else format_bounds(interval.mean, interval.low, interval.high))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(figure: Sequence[float] | None, sign: str = "", unit: str = "") -> str:
    return "no gap" if figure is None and unit else "" if figure is None else format_mean(figure, sign, unit)


def choice_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the trials on the validation video; the chosen ones are bold."""
    choices = report["choice"] or {}  # earlier reports may have none
    if "trials" in choices:
        return _shared_choice_table(choices)
    lines = ["| Row | Alpha | Beta | Own weight | Seeds | PR | SR |", "| --- |" + " ---: |" * 6]
    for name, choice in choices.items():
        for each in choice["trials"]:
            weights = [f"{value:g}" if value else "" for value in each["weights"].values()]
            cells = [ROWS[name].title, *weights, str(len(each["by seed"]))]
            cells += [f"{each[figure]:.1f}" for figure in METRICS]
            lines.append(_choice_line(cells, chosen=each["weights"] == choice["weights"]))
    return lines


def _shared_choice_table(choice: Mapping[str, Any]) -> list[str]:
    """Return the table of an earlier report, in which all rows shared one choice."""
    lines = [
        "| Learning rate: trunk, adaptors | Fusion | Alpha | Beta | CMD, PR | CMD, SR | Student, PR | Student, SR |",
        "|" + " ---: |" * 8,
    ]
    for each in choice["trials"]:
        cells = [f"{value:g}" for value in (*each["learning rates"].values(), each["alpha"], each["beta"])]
        for row in (CMD, STUDENT):
            cells += [f"{each[row][figure]:.1f}" if row in each else "" for figure in METRICS]
        lines.append(
            _choice_line(cells, chosen=all(each[name] == choice[name] for name in ("factors", "alpha", "beta")))
        )
    return lines


def _choice_line(cells: Sequence[str], *, chosen: bool) -> str:
    bold = "**" if chosen else ""
    return f"| {' | '.join(cell and f'{bold}{cell}{bold}' for cell in cells)} |"


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Plot each row's PR and SR with standard deviations and the share of the gap from its base that it closes."""
    measured = summary(report["by seed"])
    rows = list(measured)
    figure = Figure(figsize=(10, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    positions = range(len(rows))
    for axes, metric, color in zip(figure.subplots(1, 2, sharey=True), METRICS, PLOT_COLORS, strict=False):
        values = [measured[name][metric] for name in rows]
        axes.barh(
            positions,
            [mean for mean, _ in values],
            xerr=[deviation for _, deviation in values],
            color=color,
            alpha=0.75,
            error_kw={"elinewidth": 1.2, "capsize": 3},
        )
        for position, name, (mean, deviation) in zip(positions, rows, values, strict=True):
            closed = measured[name][f"{metric} gap closed"] if name != TEACHER and ROWS[name].base else None
            text = f"{mean:.1f}" + (f", closes {closed[0]:.0f} ± {closed[1]:.0f} %" if closed else "")
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # hides the lines of teacher and student
            axes.text(mean + deviation + 0.8, position, text, va="center", fontsize=8, bbox=box)
        for name, dashes in ((TEACHER, "-"), (STUDENT, "--")):
            if name in measured:
                axes.axvline(measured[name][metric][0], color="0.4", linewidth=1, linestyle=dashes, zorder=0)
        axes.set_xlim(0, 1.35 * max(mean + deviation for mean, deviation in values) + 1)
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(f"{metric}, mean and standard deviation over seeds", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    titles = ["Teacher" if name == TEACHER else ROWS[name].title for name in rows]
    figure.axes[0].set_yticks(list(positions), titles, fontsize=8)
    figure.axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=140)
