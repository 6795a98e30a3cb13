"""Success and precision plots of several trackers.

How several trackers do on the sequences of each attribute, as a picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.evaluation.metrics import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    BenchmarkScores,
)
from mmdistill.toolkit.io import atomic_path

# Okabe and Ito's colors, which color-blind readers can tell apart, without the yellow that white swallows.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", "-.", ":")
_MAX_NAME = 80  # characters of a tracker's or an attribute's name
_INSIDE = 6  # trackers whose legend fits inside the plot; that of more stands beside it

PlotFormat = Literal["png", "svg", "pdf"]
"""What a plot may be written as: pixels, or lines that stay sharp at any size."""

# The same plot gives the same bytes: no date, and SVG's names drawn from a fixed salt. Text in PDF stays text.
_METADATA: Mapping[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_SVG_SALT, _PDF_TRUETYPE = "mmdistill", 42


def check_formats(formats: Sequence[PlotFormat]) -> None:
    """Refuse an empty list of formats, which ``--plot-format`` without a value is."""
    if not formats:
        raise DataError("--plot-format: expected png, svg or pdf, or several of them, got none")


def plot_curves(
    scores: Mapping[str, BenchmarkScores],
    folder: str | Path,
    *,
    prefix: str = "",
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Draw the success, precision and normalized precision plots of trackers on one benchmark.

    Args:
        scores: for each tracker's name what it scored, all by the same rule.
        folder: gets ``success``, ``precision`` and ``normalized_precision``, each with a suffix for every format.
        prefix: stands before the files' names.
        formats: what the plots are written as; the same scores give the same bytes.

    Returns:
        The paths of the files.

    Raises:
        DataError: no tracker, or trackers scored by different rules.
    """
    rules = {each.rule for each in scores.values()}
    if len(rules) != 1:
        raise DataError(
            f"plots: expected trackers scored by one rule, got {len(scores)} trackers and {len(rules)} rules"
        )
    rule = rules.pop()
    overall = {name: each.overall for name, each in scores.items()}
    at = "0.2" if rule.normalized == "share" else "0 to 0.5"
    plots = [
        _Plot(
            file="success",
            title=f"Success (SR) on {rule.benchmark}",
            horizontal="overlap threshold (IoU)",
            vertical="frames above threshold, %",
            thresholds=SUCCESS_THRESHOLDS,
            curves={name: each.success for name, each in overall.items()},
            figures={name: each.SR for name, each in overall.items()},
            legend="lower left",
        ),
        _Plot(
            file="precision",
            title=f"Precision (PR at {rule.precision_threshold} px) on {rule.benchmark}",
            horizontal="center error threshold, pixels",
            vertical="frames within threshold, %",
            thresholds=PRECISION_THRESHOLDS,
            curves={name: each.precision for name, each in overall.items()},
            figures={name: each.PR for name, each in overall.items()},
            legend="lower right",
            mark=rule.precision_threshold,
        ),
        _Plot(
            file="normalized_precision",
            title=f"Normalized precision (NPR at {at}) on {rule.benchmark}",
            horizontal="center error threshold, target sizes",
            vertical="frames within threshold, %",
            thresholds=NORMALIZED_THRESHOLDS,
            curves={name: each.normalized for name, each in overall.items()},
            figures={name: each.NPR for name, each in overall.items()},
            legend="lower right",
            mark=0.2 if rule.normalized == "share" else None,
        ),
    ]
    return [path for plot in plots for path in save_figure(_draw(plot), Path(folder) / f"{prefix}{plot.file}", formats)]


def save_figure(figure: Figure, path: Path, formats: Sequence[PlotFormat]) -> list[Path]:
    """Write a figure once for every format, each whole or not at all.

    Args:
        figure: what is drawn.
        path: the file without its suffix.
        formats: see ``plot_curves``.
    """
    paths = [path.with_name(f"{path.name}.{each}") for each in dict.fromkeys(formats)]
    with matplotlib.rc_context({"svg.hashsalt": _SVG_SALT, "pdf.fonttype": _PDF_TRUETYPE}), warnings.catch_warnings():
        # A name in letters that the font has not is drawn as boxes; the figures are right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for each in paths:
            with atomic_path(each) as temporary:
                figure.savefig(temporary, dpi=160, metadata=_METADATA[each.suffix[1:]])
    return paths


@dataclass(frozen=True)
class _Plot:
    """One plot: a curve and a figure per tracker's name."""

    file: str
    title: str
    horizontal: str
    vertical: str
    thresholds: Array
    curves: dict[str, Array]
    figures: dict[str, float]
    legend: Literal["lower left", "lower right"]
    mark: float | None = None


def _draw(plot: _Plot) -> Figure:
    figure = Figure(figsize=(5.6 if len(plot.curves) <= _INSIDE else 8.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    # A tracker keeps its color and dashes in all plots; the best is first in the legend.
    places = {name: place for place, name in enumerate(plot.curves)}
    for name in sorted(plot.curves, key=lambda name: -plot.figures[name]):
        axes.plot(
            plot.thresholds,
            plot.curves[name],
            color=COLORS[places[name] % len(COLORS)],
            linestyle=_DASHES[places[name] % len(_DASHES)],
            linewidth=2,
            label=plain(f"[{plot.figures[name]:.1f}] {name}"),
        )
    if len(places) <= _INSIDE:
        axes.legend(loc=plot.legend, framealpha=0.9, fontsize=10)
    else:
        figure.legend(loc="outside right upper", fontsize=9)
    if plot.mark is not None:
        axes.axvline(plot.mark, color="0.6", linewidth=1, zorder=1)
    axes.set_title(plot.title, fontsize=12)
    axes.set_xlabel(plot.horizontal, fontsize=11)
    axes.set_ylabel(plot.vertical, fontsize=11)
    axes.set_xlim(float(plot.thresholds[0]), float(plot.thresholds[-1]))
    axes.set_ylim(0, 100)
    axes.grid(color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plain(text: str) -> str:
    """Return a text that Matplotlib shows as it is, not as mathematics, cut where it is too long to draw."""
    return printable(text, _MAX_NAME).replace("$", r"\$")


_MARKS = "os^DPv"
_LETTERS = 80  # that fit above the plot


def plot_attributes(
    scores: Mapping[str, BenchmarkScores],
    folder: str | Path,
    *,
    prefix: str = "",
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Draw SR by attribute: a row each, those of most sequences on top, a mark for each tracker.

    Args:
        scores: for each tracker's name what it scored, all on the same sequences.
        folder: gets ``attributes``, with a suffix for every format.
        prefix: stands before the file's name.
        formats: see ``plot_curves``.

    Returns:
        The files' paths; none where there are no attributes.
    """
    having = next(iter(scores.values())).having
    if not having:
        return []
    order = sorted(having, key=lambda attribute: (-len(having[attribute]), attribute))
    rows = range(len(order), 0, -1)
    values = {name: [each.attributes[attribute].SR for attribute in order] for name, each in scores.items()}

    figure = Figure(figsize=(7.2, 1.6 + 0.28 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    across = list(zip(*values.values(), strict=True))
    axes.hlines(rows, [min(row) for row in across], [max(row) for row in across], color="0.85", linewidth=5, zorder=1)
    for place, (name, row) in enumerate(values.items()):
        color, mark = COLORS[place % len(COLORS)], _MARKS[place % len(_MARKS)]
        label = plain(f"[{scores[name].overall.SR:.1f}] {name}")
        axes.plot(row, rows, mark, color=color, markersize=6.5, markeredgecolor="white", zorder=3, label=label)
    axes.set_yticks(rows, [plain(f"{attribute} ({len(having[attribute])})") for attribute in order])
    axes.set_xlabel("success rate (SR), %; number of sequences in brackets", fontsize=11)
    axes.grid(axis="x", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    columns = max(1, min(3, _LETTERS // max(len(name) + 10 for name in values)))
    figure.legend(loc="outside upper center", ncols=columns, fontsize=10, frameon=False)
    return save_figure(figure, Path(folder) / f"{prefix}attributes", formats)
