"""The report in the documents is what its command makes, and holds nobody's raw data."""

from __future__ import annotations

import re
import tarfile
from datetime import date
from pathlib import Path

import pytest
from page_tree import parse, rows

from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.report.collecting import collect_raw, name_folders
from mmdistill.reference.report.ground_truth import read_truths
from mmdistill.reference.report.page import page

SAMPLE = Path(__file__).parents[3] / "docs" / "sample_report.html"
TRACKERS = ("mfDiMP", "APFNet", "DAPNet", "MANet", "FANet")
TITLE = "Five trackers on LasHeR, test"


def test_the_sample_is_small_and_has_the_published_figures() -> None:
    html = SAMPLE.read_text("utf-8")
    assert len(html.encode()) < 1_000_000
    tree = parse(html)
    assert not tree.all("img")
    assert "/tmp" not in html
    timelines = tree.all("figure", class_="timeline")
    assert timelines
    for timeline in timelines:
        labels = timeline.one(class_="drawing").attributes["data-labels"].split("\n")
        spans = re.findall(r"^frames (\d+)\u2013(\d+)$", "\n".join(labels), re.MULTILINE)
        assert len(spans) == len(labels)
        assert all(int(high) - int(low) >= 4 for low, high in spans)
    assert tree.one("h1").text == TITLE
    assert rows(tree.one("section", id="overall").one("table")) == [
        ["APFNet", "50.0", "43.9", "36.2"],
        ["mfDiMP", "44.7", "39.5", "34.3"],
        ["MANet", "45.5", "38.3", "32.6"],
        ["DAPNet", "43.1", "38.3", "31.4"],
        ["FANet", "44.1", "38.4", "30.9"],
    ]
    assert "245 sequences, 220,703 frames" in tree.one("header").text


@pytest.mark.slow
def test_the_sample_is_what_the_command_makes(real_data: Path, tmp_path: Path) -> None:
    with tarfile.open(real_data / "metrics.tar.xz") as archive:
        members = [member for member in archive if "/LasHeR245/" in member.name]
        archive.extractall(tmp_path, members, filter="data")
    root = tmp_path / "LasHeR245"
    folders = name_folders([str(root / "results" / tracker) for tracker in TRACKERS])
    contents = collect_raw(folders, read_truths("lasher", root / "annos", None, Oddities()), RULES["lasher"], {})
    made = page(contents, looks=2, made=date(2026, 1, 1), title=TITLE)
    text = [re.sub("<footer>.*?</footer>", "", html) for html in (made, SAMPLE.read_text("utf-8"))]
    assert text[0] == text[1]
