"""A report on disk: the page, and pictures of its plots beside it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from mmdistill.reference.evaluation.attribute_plot import plot_attributes
from mmdistill.reference.evaluation.plots import PlotFormat, plot_curves
from mmdistill.reference.files import write_text
from mmdistill.reference.report.contents import Contents
from mmdistill.reference.report.page import page


def write_report(
    contents: Contents,
    out: Path,
    *,
    looks: int,
    made: date,
    title: str | None = None,
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Write the page, and the pictures of its plots with the page's name before theirs; return the paths.

    Args:
        contents: what is reported.
        out: the HTML file; one that exists is replaced.
        looks: how many sequences are shown closely for each of two trackers.
        made: the date in the footer.
        title: of the page; the trackers' number and the benchmark if not given.
        formats: what the pictures are written as.
    """
    scores = {tracker.name: tracker.scores for tracker in contents.trackers}
    write_text(out, page(contents, looks=looks, made=made, title=title))
    prefix = f"{out.stem}_"
    curves = plot_curves(scores, out.parent, prefix=prefix, formats=formats)
    return [out, *curves, *plot_attributes(scores, out.parent, prefix=prefix, formats=formats)]
