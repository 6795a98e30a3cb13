"""The report's HTML page, a single file without links to others, and its plots as image files."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from importlib.resources import files
from pathlib import Path

import numpy as np

import mmdistill
from mmdistill.toolkit.evaluation.formatting import BENCHMARK_TITLES, pluralize
from mmdistill.toolkit.evaluation.plots import PlotFormat, plot_attributes, plot_curves
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.report.contents import Contents
from mmdistill.toolkit.report.curves import curves_section
from mmdistill.toolkit.report.markup import Markup, color_css, element, join
from mmdistill.toolkit.report.overview import attributes_section, overall_section, sequences_section
from mmdistill.toolkit.report.tracker_pairs import pairs_section

_SECTION_TITLES = {
    "overall": "Overall",
    "curves": "Plots",
    "attributes": "Attributes",
    "pairs": "Pairs",
    "sequences": "Sequences",
}


def render_page(contents: Contents, *, examples: int, created: date, title: str | None = None) -> str:
    """Return the report's HTML; the same arguments give the same text.

    Args:
        contents: the report's contents.
        examples: sequences shown in closeup, per tracker of a pair.
        created: date in the footer.
        title: the page's title; by default the number of trackers and the benchmark.
    """
    sections = {
        "overall": overall_section(contents),
        "curves": curves_section(contents),
        "attributes": attributes_section(contents),
        "pairs": pairs_section(contents, examples),
        "sequences": sequences_section(contents),
    }
    title = title or f"{pluralize(len(contents.trackers), 'tracker')} on {_benchmark(contents)}"
    links = [element("a", _SECTION_TITLES[name], href=f"#{name}") for name, section in sections.items() if section]
    frames = contents.trackers[0].scores.overall.frames
    lead = f"{pluralize(len(contents.sequences), 'sequence')}, {pluralize(frames, 'frame')}. Scores are in percent."
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        # Style and script elements are not escaped: their text ends at the closing tag, which neither file has.
        element("style", Markup(_read("page.css") + color_css())),
    )
    body = element(
        "body",
        element("a", "Skip to the scores", href="#overall", class_="skip"),
        element(
            "header",
            element("h1", title),
            element("p", lead, class_="lead"),
            element("nav", *links, aria_label="Sections"),
        ),
        element("main", *sections.values()),
        _footer(contents, created),
        element("script", Markup(_read("page.js"))),
    )
    return join(Markup("<!doctype html>\n"), element("html", head, body, lang="en"), Markup("\n"))


def _read(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _benchmark(contents: Contents) -> str:
    return BENCHMARK_TITLES.get(contents.protocol.benchmark, contents.protocol.benchmark)


def _footer(contents: Contents, created: date) -> Markup:
    facts = {
        "Benchmark": _benchmark(contents),
        "Scoring protocol": contents.protocol.description,
        "Created with": f"mmdistill {mmdistill.__version__}, NumPy {np.__version__}",
        "Date": created.isoformat(),
    }
    entries = [join(element("dt", name), element("dd", fact)) for name, fact in facts.items()]
    return element("footer", element("dl", *entries))


def write_report(
    contents: Contents,
    out: Path,
    *,
    examples: int,
    created: date,
    title: str | None = None,
    formats: Sequence[PlotFormat] = ("png",),
) -> list[Path]:
    """Write the page and, with names that start with the page's name, its plots.

    Args:
        contents: the report's contents.
        out: the HTML file; an existing one is replaced.
        examples: sequences shown in closeup, per tracker of a pair.
        created: date in the footer.
        title: the page's title; by default the number of trackers and the benchmark.
        formats: file formats of the plots.

    Returns:
        The paths of the page and the plots.
    """
    write_text(out, render_page(contents, examples=examples, created=created, title=title))
    scores = {tracker.name: tracker.scores for tracker in contents.trackers}
    prefix = f"{out.stem}_"
    curves = plot_curves(scores, out.parent, prefix=prefix, formats=formats)
    return [out, *curves, *plot_attributes(scores, out.parent, prefix=prefix, formats=formats)]
