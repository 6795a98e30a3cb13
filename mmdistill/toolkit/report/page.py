"""The page: everything in one file that asks for nothing from elsewhere.

A report on disk: the page, and pictures of its plots beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path

import numpy as np

import mmdistill
from mmdistill.toolkit.evaluation.plots import PlotFormat, plot_attributes, plot_curves
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.report.charts import color_rules
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.curves import curves_section
from mmdistill.toolkit.report.differences import differences_section
from mmdistill.toolkit.report.markup import TITLES, Markup, element, join, several
from mmdistill.toolkit.report.overview import attributes_section, overall_section, sequences_section

_SECTIONS = {
    "overall": "Overall",
    "curves": "Plots",
    "attributes": "Attributes",
    "pairs": "Pairs",
    "sequences": "Sequences",
}


def page(contents: Contents, *, looks: int, made: date, title: str | None = None) -> str:
    """Return the report's HTML; the same contents and date give the same text.

    Args:
        contents: what is reported.
        looks: how many sequences are shown closely for each of two trackers.
        made: the date in the footer.
        title: of the page; the trackers' number and the benchmark if not given.
    """
    sections = {
        "overall": overall_section(contents),
        "curves": curves_section(contents),
        "attributes": attributes_section(contents),
        "pairs": differences_section(contents, looks),
        "sequences": sequences_section(contents),
    }
    benchmark = TITLES.get(contents.rule.benchmark, contents.rule.benchmark)
    title = title or f"{several(len(contents.trackers), 'tracker')} on {benchmark}"
    links = [element("a", _SECTIONS[name], href=f"#{name}") for name, section in sections.items() if section]
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # Not escaped: in a style or script element, text ends at the closing tag alone, which neither holds.
        element("style", Markup(_own("page.css") + color_rules())),
    )
    body = element(
        "body",
        element("a", "Skip to the figures", href="#overall", class_="skip"),
        element(
            "header",
            element("h1", title),
            element("p", _lead(contents), class_="lead"),
            element("nav", *links, aria_label="Sections"),
        ),
        element("main", *sections.values()),
        _footer(contents, made),
        element("script", Markup(_own("page.js"))),
    )
    return join(Markup("<!doctype html>\n"), element("html", head, body, lang="en"), Markup("\n"))


def _own(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _lead(contents: Contents) -> str:
    frames = contents.trackers[0].scores.overall.frames
    return f"{several(len(contents.sequences), 'sequence')}, {several(frames, 'frame')}. Figures are in percent."


def _footer(contents: Contents, made: date) -> Markup:
    facts = {
        "Benchmark": TITLES.get(contents.rule.benchmark, contents.rule.benchmark),
        "Scored by": contents.rule.description,
        "Made by": f"mmdistill {mmdistill.__version__}, NumPy {np.__version__}",
        "On": made.isoformat(),
    }
    entries = [join(element("dt", name), element("dd", fact)) for name, fact in facts.items()]
    return element("footer", element("dl", *entries))


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
