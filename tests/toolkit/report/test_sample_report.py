"""The reports in the documents are what their commands make, and hold nobody's raw data."""

from __future__ import annotations

import importlib
import re
import shutil
import tarfile
from datetime import date
from pathlib import Path
from types import ModuleType

import pytest
from page_tree import parse, rows

from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.evaluation.metrics import best_overlaps
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.report.contents import collect_raw, name_folders, read_ground_truth
from mmdistill.toolkit.report.page import render_page

SAMPLE = Path(__file__).parents[3] / "docs" / "sample_report_lasher.html"
DRAWN = SAMPLE.with_name("sample_report.html")
TRACKERS = ("mfDiMP", "APFNet", "DAPNet", "MANet", "FANet")
TITLE = "Five trackers on LasHeR, test"


@pytest.fixture
def sample_report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    return importlib.import_module("sample_report")


def test_the_sample_of_synthetic_video_shows_every_part_of_a_report(sample_report: ModuleType) -> None:
    html = DRAWN.read_text("utf-8")
    assert len(html.encode()) < 1_000_000
    assert "/tmp" not in re.sub('base64,[^"]*', "", html)
    tree = parse(html)
    assert len(tree.one("section", id="attributes").all("table")[0].all("tr")) == 2 + 6  # head, six attributes, all
    assert len(tree.one("section", id="overall").one("table").all("tr")) == 1 + len(sample_report.TRACKERS)
    pictures = tree.one("section", id="pairs").all("img")
    assert len(pictures) >= 2 * 3 * sample_report.CLOSEUPS
    assert all(each.attributes["src"].startswith("data:image/jpeg;base64,") for each in pictures)
    assert tree.all("figure", class_="timeline")
    assert len(tree.one("section", id="sequences").all("table")[0].all("tr")) == 1 + sample_report.NUM_VIDEOS


def test_the_samples_trackers_follow_a_target(sample_report: ModuleType) -> None:
    settings = SyntheticSettings(size=(160, 120), target_size=(24.0, 32.0), length=8)
    [sequence] = synthetic_sequences(1, seed=3, settings=settings)
    for sides in sample_report.TRACKERS.values():
        boxes = sample_report.track(sequence, sides)
        assert boxes.shape == (8, 4)
        assert best_overlaps(boxes, (sequence.boxes,)).mean() > 0.4


@pytest.mark.slow
def test_the_sample_of_synthetic_video_has_the_figures_that_are_made_again(
    sample_report: ModuleType, tmp_path: Path
) -> None:
    assert sample_report.make(tmp_path / "report.html") == 0
    # The pictures' bytes are OpenCV's, which differ from version to version.
    made, sample = (
        rows(parse(path.read_text("utf-8")).one("section", id="overall").one("table"))
        for path in (tmp_path / "report.html", DRAWN)
    )
    assert made == sample


def test_the_sample_of_lasher_is_small_and_has_the_published_figures() -> None:
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
    assert len(tree.one("section", id="attributes").all("table")[0].all("tr")) == 2 + 19
    assert "245 sequences, 220,703 frames" in tree.one("header").text


@pytest.mark.slow
def test_the_sample_of_lasher_is_what_the_command_makes(real_data: Path, tmp_path: Path) -> None:
    with tarfile.open(real_data / "metrics.tar.xz") as archive:
        members = [member for member in archive if "/LasHeR245/" in member.name]
        archive.extractall(tmp_path, members, filter="data")
    root = tmp_path / "LasHeR245"
    shutil.copytree(real_data / "attributes" / "LasHeR", root / "AttriSeqsTxt")
    folders = name_folders([str(root / "results" / tracker) for tracker in TRACKERS])
    contents = collect_raw(
        folders, read_ground_truth("lasher", root / "annos", None, DataIssues())[0], PROTOCOLS["lasher"], {}
    )
    made = render_page(contents, examples=2, created=date(2026, 1, 1), title=TITLE)
    text = [re.sub("<footer>.*?</footer>", "", html) for html in (made, SAMPLE.read_text("utf-8"))]
    assert text[0] == text[1]
