"""What came out of the ablation: figures over seeds, tables and a plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from parts.ablation.rows import CHOOSER, ROWS, STUDENT, TABLES, TEACHER, TEACHER_PAPER
from parts.ablation.sizes import Chosen
from parts.claims import BySeed, differences
from parts.spread import interval, mean_and_deviation, with_spread

from mmdistill.toolkit.evaluation.plots import PLOT_COLORS
from mmdistill.toolkit.io import atomic_path

FIGURES = ("PR", "NPR", "SR")
METRICS = ("PR", "SR")

GAP = 1.0
"""Points between teacher and student below which there is no gap to close a share of."""


def summary(by_seed: BySeed) -> dict[str, Any]:
    """Return for each row its figures over seeds, and what it gains on the student and closes of the gap, seed by seed.

    A mean has its standard deviation behind it. What a row gains and closes is None where a seed lacks the student or
    the teacher; what it closes also where the teacher is not ahead by ``GAP`` in each seed.
    """
    rows: dict[str, Any] = {}
    for name in (TEACHER, *ROWS):
        seeds = [seed for seed, found in by_seed.items() if name in found]
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
            there = complete and len(gaps) == len(seeds) and min(gaps) >= GAP
            shares = [100 * gain / gap for gain, gap in zip(gains, gaps, strict=True)] if there else []
            rows[name][f"{figure} gap closed"] = mean_and_deviation(shares) if there else None
    return rows


def table(report: Mapping[str, Any], name: str) -> list[str]:
    """Return the lines of a table of the paper in Markdown: as far as it is measured, the paper's figures beside it."""
    return rows_table(report, TABLES[name])


def rows_table(report: Mapping[str, Any], rows: Sequence[str]) -> list[str]:
    """Return the lines of a table of the teacher and these rows."""
    lines = [
        "| Tracker | PR | SR | PR to student | SR to student | gap closed, PR | gap closed, SR | paper, PR/SR |",
        "| --- |" + " ---: |" * 7,
    ]
    for row in (TEACHER, *rows):
        title, paper = ("Teacher", TEACHER_PAPER) if row == TEACHER else (ROWS[row].title, ROWS[row].paper)
        published = f"{paper[0]:.1f}/{paper[1]:.1f}" if paper else ""
        found = report["rows"].get(row)
        if found is None:
            cells = ["not measured"] * 6
        else:
            cells = [_cell(found[figure]) for figure in METRICS]
            same = row == STUDENT
            cells += ["" if same else _cell(found[f"{figure} to student"], "+") for figure in METRICS]
            own = row in (STUDENT, TEACHER)
            cells += ["" if own else _cell(found[f"{figure} gap closed"], unit=" %") for figure in METRICS]
        lines.append(f"| {' | '.join([title, *cells, published])} |")
    return lines


def intervals_table(by_seed: BySeed, pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the lines of a table of how far rows are ahead of others, with 95 % t intervals over seeds.

    Args:
        by_seed: by seed and row, each figure; 2 to 10 seeds.
        pairs: row and the row it is compared with.
    """
    lines = [f"| Difference | {' | '.join(METRICS)} |", "| --- |" + " --- |" * len(METRICS)]
    for name, base in pairs:
        cells = [" minus ".join(ROWS[row].title.removeprefix("+ ") for row in (name, base))]
        for figure in METRICS:
            ahead = differences(by_seed, name, base, figure)
            low, high = interval(ahead)
            judged = "excludes 0" if low > 0 or high < 0 else "includes 0"
            cells.append(f"{mean_and_deviation(ahead)[0]:+.1f}, {low:+.1f} to {high:+.1f}: {judged}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _cell(figure: Sequence[float] | None, sign: str = "", unit: str = "") -> str:
    return "no gap" if figure is None and unit else "" if figure is None else with_spread(figure, sign, unit)


def choice_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table of what was tried on the validation video; what was taken is bold."""
    lines = [
        "| learning rate: trunk, adaptors | fusion | alpha | beta | CMD, PR | CMD, SR | alone, PR | alone, SR |",
        "|" + " ---: |" * 8,
    ]
    choice = report["choice"]
    for each in choice["tried"] if choice is not None else []:
        cells = [f"{value:g}" for value in (*each["learning rates"].values(), each["alpha"], each["beta"])]
        for row in (CHOOSER, STUDENT):
            cells += [f"{each[row][figure]:.1f}" if row in each else "" for figure in METRICS]
        taken = all(each[field.name] == choice[field.name] for field in fields(Chosen))
        bold = "**" if taken else ""
        lines.append(f"| {' | '.join(cell and f'{bold}{cell}{bold}' for cell in cells)} |")
    return lines


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Draw PR and SR of each row with their spread, and write how much of the gap each closes."""
    rows = [name for name in (TEACHER, *ROWS) if name in report["rows"]]
    figure = Figure(figsize=(10, 0.9 + 0.36 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    places = range(len(rows))
    for axes, metric, color in zip(figure.subplots(1, 2, sharey=True), METRICS, PLOT_COLORS, strict=False):
        values = [report["rows"][name][metric] for name in rows]
        axes.barh(
            places,
            [mean for mean, _ in values],
            xerr=[deviation for _, deviation in values],
            color=color,
            alpha=0.75,
            error_kw={"elinewidth": 1.2, "capsize": 3},
        )
        for place, name, (mean, deviation) in zip(places, rows, values, strict=True):
            closed = None if name in (TEACHER, STUDENT) else report["rows"][name][f"{metric} gap closed"]
            text = f"{mean:.1f}" + (f", closes {closed[0]:.0f} ± {closed[1]:.0f} %" if closed else "")
            behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}  # the lines of teacher and student
            axes.text(mean + deviation + 0.8, place, text, va="center", fontsize=8, bbox=behind)
        for name, dashes in ((TEACHER, "-"), (STUDENT, "--")):
            if name in report["rows"]:
                axes.axvline(report["rows"][name][metric][0], color="0.4", linewidth=1, linestyle=dashes, zorder=0)
        axes.set_xlim(0, 1.35 * max(mean + deviation for mean, deviation in values) + 1)
        axes.set_xticks(range(0, 101, 20))
        axes.set_title(f"{metric}, mean and standard deviation over seeds", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    titles = ["Teacher" if name == TEACHER else ROWS[name].title for name in rows]
    figure.axes[0].set_yticks(list(places), titles, fontsize=8)
    figure.axes[0].invert_yaxis()
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=140)
