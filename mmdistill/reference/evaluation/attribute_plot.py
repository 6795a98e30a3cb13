"""How several trackers do on the sequences of each attribute, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mmdistill.reference.evaluation.plots import COLOURS, PlotFormat, plain, save_figure
from mmdistill.reference.evaluation.scores import BenchmarkScores

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
        colour, mark = COLOURS[place % len(COLOURS)], _MARKS[place % len(_MARKS)]
        label = plain(f"[{scores[name].overall.SR:.1f}] {name}")
        axes.plot(row, rows, mark, color=colour, markersize=6.5, markeredgecolor="white", zorder=3, label=label)
    axes.set_yticks(rows, [plain(f"{attribute} ({len(having[attribute])})") for attribute in order])
    axes.set_xlabel("success rate (SR), %; number of sequences in brackets", fontsize=11)
    axes.grid(axis="x", color="0.88")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    columns = max(1, min(3, _LETTERS // max(len(name) + 10 for name in values)))
    figure.legend(loc="outside upper center", ncols=columns, fontsize=10, frameon=False)
    return save_figure(figure, Path(folder) / f"{prefix}attributes", formats)
