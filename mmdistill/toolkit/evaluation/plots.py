"""Precision, normalized precision, success and attribute plots as image files."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.evaluation.formatting import CurveLabels, curve_labels
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.io import atomic_path

PLOT_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""The color-blind safe palette of Okabe and Ito, without yellow, which is hard to see on white."""

_DASHES = ("-", "--", "-.", ":")
_MARKERS = "os^DPv"
_MAX_NAME = 80
"""Characters of a tracker's or an attribute's name."""

_MAX_INSIDE_LEGEND = 6
"""Trackers in a legend inside the plot; longer legends stand beside it."""

_MAX_LEGEND_ROW = 80
"""Characters of a row of the attribute plot's legend."""

PlotFormat = Literal["png", "svg", "pdf"]
"""File formats of plots: pixels (png), or vector graphics (svg, pdf)."""

# The same plot gives the same bytes: no dates, and a fixed salt for SVG's identifiers.
_METADATA: Mapping[str, dict[str, None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
_SVG_SALT = "mmdistill"
_TRUETYPE = 42  # text in PDF stays text


def check_plot_formats(formats: Sequence[PlotFormat]) -> None:
    """Raise DataError if there is no format, as with ``--plot-format`` without a value."""
    if not formats:
        raise DataError("--plot-format: expected one or several of png, svg, pdf, got none")


def plot_curves(
    scores: Mapping[str, BenchmarkScores],
    folder: str | Path,
    *,
    prefix: str = "",
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Write the success, precision and normalized precision plots of trackers on one benchmark.

    The same scores give the same bytes.

    Args:
        scores: scores by tracker name, all by the same protocol.
        folder: receives ``success``, ``precision`` and ``normalized_precision``, each in every format.
        prefix: start of the files' names.
        formats: file formats.

    Returns:
        The paths of the files.

    Raises:
        DataError: there is no tracker, or trackers were scored by different protocols.
    """
    protocols = {each.protocol for each in scores.values()}
    if len(protocols) != 1:
        raise DataError(
            f"plots: expected trackers scored by one protocol, got {len(scores)} trackers and "
            f"{len(protocols)} protocols"
        )
    precision, normalized, success = curve_labels(protocols.pop())
    files = {"success": success, "precision": precision, "normalized_precision": normalized}
    return [
        path
        for name, labels in files.items()
        for path in _save(_draw_curves(labels, scores), Path(folder) / f"{prefix}{name}", formats)
    ]


def _draw_curves(labels: CurveLabels, scores: Mapping[str, BenchmarkScores]) -> Figure:
    inside = len(scores) <= _MAX_INSIDE_LEGEND
    figure = Figure(figsize=(5.6 if inside else 8.4, 4.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    rates = {name: getattr(each.overall, labels.rate) for name, each in scores.items()}
    # A tracker has the same color and dashes in all plots; the best one is first in the legend.
    indices = {name: index for index, name in enumerate(scores)}
    for name in sorted(scores, key=lambda name: -rates[name]):
        axes.plot(
            labels.thresholds,
            getattr(scores[name].overall, labels.curve),
            color=PLOT_COLORS[indices[name] % len(PLOT_COLORS)],
            linestyle=_DASHES[indices[name] % len(_DASHES)],
            linewidth=2,
            label=_legend_label(name, rates[name]),
        )
    if inside:
        axes.legend(loc="lower left" if labels.curve == "success" else "lower right", framealpha=0.9, fontsize=10)
    else:
        figure.legend(loc="outside right upper", fontsize=9)
    if labels.mark is not None:
        axes.axvline(labels.mark, color="0.6", linewidth=1, zorder=1)
    benchmark = next(iter(scores.values())).protocol.benchmark
    axes.set_title(f"{labels.title} on {benchmark}", fontsize=12)
    axes.set_xlabel(labels.x_label, fontsize=11)
    axes.set_ylabel(labels.y_label, fontsize=11)
    axes.set_xlim(float(labels.thresholds[0]), float(labels.thresholds[-1]))
    axes.set_ylim(0, 100)
    axes.grid(color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def plot_attributes(
    scores: Mapping[str, BenchmarkScores],
    folder: str | Path,
    *,
    prefix: str = "",
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Write a plot of SR by attribute: a row per attribute, a marker per tracker.

    The attributes with the most sequences stand at the top.

    Args:
        scores: scores by tracker name, all on the same sequences.
        folder: receives ``attributes`` in every format.
        prefix: start of the files' names.
        formats: file formats.

    Returns:
        The paths of the files; empty if there are no attributes.
    """
    attribute_sequences = next(iter(scores.values())).attribute_sequences
    if not attribute_sequences:
        return []
    order = sorted(attribute_sequences, key=lambda attribute: (-len(attribute_sequences[attribute]), attribute))
    rows = range(len(order), 0, -1)
    values = {name: [each.attributes[attribute].SR for attribute in order] for name, each in scores.items()}

    figure = Figure(figsize=(7.2, 1.6 + 0.28 * len(order)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    by_attribute = list(zip(*values.values(), strict=True))
    lowest, highest = [min(row) for row in by_attribute], [max(row) for row in by_attribute]
    axes.hlines(rows, lowest, highest, color="0.85", linewidth=5, zorder=1)
    for index, (name, row) in enumerate(values.items()):
        color, marker = PLOT_COLORS[index % len(PLOT_COLORS)], _MARKERS[index % len(_MARKERS)]
        label = _legend_label(name, scores[name].overall.SR)
        axes.plot(row, rows, marker, color=color, markersize=6.5, markeredgecolor="white", zorder=3, label=label)
    axes.set_yticks(rows, [_escape(f"{attribute} ({len(attribute_sequences[attribute])})") for attribute in order])
    axes.set_xlabel("Success rate (SR, %); number of sequences in brackets", fontsize=11)
    axes.grid(axis="x", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    columns = max(1, min(3, _MAX_LEGEND_ROW // max(len(name) + 10 for name in values)))
    figure.legend(loc="outside upper center", ncols=columns, fontsize=10, frameon=False)
    return _save(figure, Path(folder) / f"{prefix}attributes", formats)


def _legend_label(name: str, rate: float) -> str:
    return _escape(f"[{rate:.1f}] {name}")


def _escape(text: str) -> str:
    """Return a text that Matplotlib shows unchanged, not as mathematics; long texts are cut."""
    return printable(text, _MAX_NAME).replace("$", r"\$")


def _save(figure: Figure, path: Path, formats: Sequence[PlotFormat]) -> list[Path]:
    """Write a figure in every format, each file whole or not at all; ``path`` has no suffix."""
    paths = [path.with_name(f"{path.name}.{each}") for each in dict.fromkeys(formats)]
    with matplotlib.rc_context({"svg.hashsalt": _SVG_SALT, "pdf.fonttype": _TRUETYPE}), warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        for each in paths:
            with atomic_path(each) as temporary:
                figure.savefig(temporary, dpi=160, metadata=_METADATA[each.suffix[1:]])
    return paths
