"""Tables and plot of the ablation's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from parts.ablation.rows import CMD, ROWS, STUDENT, TABLES, TEACHER, TEACHER_PAPER
from parts.ablation.sizes import Hyperparameters
from parts.seed_statistics import BySeed, differences, format_interval, format_mean, mean_and_deviation

from mmdistill.toolkit.evaluation.plots import PLOT_COLORS
from mmdistill.toolkit.io import atomic_path

FIGURES = ("PR", "NPR", "SR")
METRICS = ("PR", "SR")

MIN_GAP = 1.0
"""Smallest gap between teacher and student, in points, of which shares are given."""


def summary(by_seed: BySeed) -> dict[str, Any]:
    """Return each row's figures over seeds, its gain on the student, and the share of the gap that it closes.

    Every figure is a mean and a standard deviation. Gains and shares are taken for each seed. They are None if a seed
    has no student or no teacher; shares also if the gap is below ``MIN_GAP`` for a seed.
    """
    rows: dict[str, Any] = {}
    for name in (TEACHER, *ROWS):
        seeds = [seed for seed, rows_of_seed in by_seed.items() if name in rows_of_seed]
        if not seeds:
            continue
        rows[name] = {"seeds": seeds}
        for figure in FIGURES:
            rows[name][figure] = mean_and_deviation([by_seed[seed][name][figure] for seed in seeds])
            gains = differences(by_seed, name, STUDENT, figure)
            complete = len(gains) == len(seeds)
            rows[name][f"{figure} to student"] = mean_and_deviation(gains) if complete else None
            gaps = [
                by_seed[seed][TEACHER][figure] - by_seed[seed][STUDENT][figure]
                for seed in seeds
                if {TEACHER, STUDENT} <= by_seed[seed].keys()
            ]
            there = complete and len(gaps) == len(seeds) and min(gaps) >= MIN_GAP
            shares = [100 * gain / gap for gain, gap in zip(gains, gaps, strict=True)] if there else []
            rows[name][f"{figure} gap closed"] = mean_and_deviation(shares) if there else None
    return rows


def table(report: Mapping[str, Any], name: str) -> list[str]:
    """Return the lines of a Markdown table: one of the paper's tables, with the published figures."""
    return rows_table(report, TABLES[name])


def rows_table(report: Mapping[str, Any], rows: Sequence[str]) -> list[str]:
    """Return the lines of a Markdown table of the teacher and these rows."""
    lines = [
        "| Tracker | PR | SR | PR gain | SR gain | Gap closed, PR | Gap closed, SR | Paper, PR/SR |",
        "| --- |" + " ---: |" * 7,
    ]
    for row in (TEACHER, *rows):
        title, paper = ("Teacher", TEACHER_PAPER) if row == TEACHER else (ROWS[row].title, ROWS[row].paper)
        published = f"{paper[0]:.1f}/{paper[1]:.1f}" if paper else ""
        figures = report["rows"].get(row)
        if figures is None:
            cells = ["not measured"] * 6
        else:
            cells = [_cell(figures[figure]) for figure in METRICS]
            same = row == STUDENT
            cells += ["" if same else _cell(figures[f"{figure} to student"], "+") for figure in METRICS]
            own = row in (STUDENT, TEACHER)
            cells += ["" if own else _cell(figures[f"{figure} gap closed"], unit=" %") for figure in METRICS]
        lines.append(f"| {' | '.join([title, *cells, published])} |")
    return lines


def intervals_table(by_seed: BySeed, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a Markdown table of differences between rows, with 95 % t intervals over seeds.

    Args:
        by_seed: figures by seed and row; 2 to 10 seeds.
        pairs: each row and the row to compare it with.
    """
    lines = [f"| Difference | {' | '.join(METRICS)} |", "| --- |" + " --- |" * len(METRICS)]
    for name, base in pairs:
        cells = [" minus ".join(ROWS[row].title.removeprefix("+ ") for row in (name, base))]
        for figure in METRICS:
            cells.append(format_interval(differences(by_seed, name, base, figure)))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(figure: Sequence[float] | None, sign: str = "", unit: str = "") -> str:
    return "no gap" if figure is None and unit else "" if figure is None else format_mean(figure, sign, unit)


def choice_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of the trials on the validation video; the chosen one is bold."""
    lines = [
        "| Learning rate: trunk, adaptors | Fusion | Alpha | Beta | CMD, PR | CMD, SR | Student, PR | Student, SR |",
        "|" + " ---: |" * 8,
    ]
    choice = report["choice"]
    for each in choice["trials"] if choice is not None else []:
        cells = [f"{value:g}" for value in (*each["learning rates"].values(), each["alpha"], each["beta"])]
        for row in (CMD, STUDENT):
            cells += [f"{each[row][figure]:.1f}" if row in each else "" for figure in METRICS]
        chosen = all(each[field.name] == choice[field.name] for field in fields(Hyperparameters))
        bold = "**" if chosen else ""
        lines.append(f"| {' | '.join(cell and f'{bold}{cell}{bold}' for cell in cells)} |")
    return lines


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Plot each row's PR and SR with standard deviations and the share of the gap that it closes."""
    rows = [name for name in (TEACHER, *ROWS) if name in report["rows"]]
    figure = Figure(figsize=(10, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    positions = range(len(rows))
    for axes, metric, color in zip(figure.subplots(1, 2, sharey=True), METRICS, PLOT_COLORS, strict=False):
        values = [report["rows"][name][metric] for name in rows]
        axes.barh(
            positions,
            [mean for mean, _ in values],
            xerr=[deviation for _, deviation in values],
            color=color,
            alpha=0.75,
            error_kw={"elinewidth": 1.2, "capsize": 3},
        )
        for position, name, (mean, deviation) in zip(positions, rows, values, strict=True):
            closed = None if name in (TEACHER, STUDENT) else report["rows"][name][f"{metric} gap closed"]
            text = f"{mean:.1f}" + (f", closes {closed[0]:.0f} ± {closed[1]:.0f} %" if closed else "")
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # hides the lines of teacher and student
            axes.text(mean + deviation + 0.8, position, text, va="center", fontsize=8, bbox=box)
        for name, dashes in ((TEACHER, "-"), (STUDENT, "--")):
            if name in report["rows"]:
                axes.axvline(report["rows"][name][metric][0], color="0.4", linewidth=1, linestyle=dashes, zorder=0)
        axes.set_xlim(0, 1.35 * max(mean + deviation for mean, deviation in values) + 1)
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(f"{metric}, mean and standard deviation over seeds", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    titles = ["Teacher" if name == TEACHER else ROWS[name].title for name in rows]
    figure.axes[0].set_yticks(list(positions), titles, fontsize=8)
    figure.axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=140)
