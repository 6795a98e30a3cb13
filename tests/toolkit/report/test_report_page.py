"""The page: whole, safe, complete, and its figures and points those of the scores."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import replace
from datetime import date
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_tree import Node, parse, rows

from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.evaluation.efficiency import Cost
from mmdistill.toolkit.evaluation.protocols import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    PROTOCOLS,
    SUCCESS_THRESHOLDS,
)
from mmdistill.toolkit.report.contents import Contents, collect_raw, read_ground_truth
from mmdistill.toolkit.report.page import render_page

CREATED = date(2026, 1, 2)


@pytest.fixture(scope="module")
def contents(small_benchmark) -> Contents:
    folders = {folder.name: folder for folder in small_benchmark.results}
    truths = read_ground_truth("vot", None, small_benchmark.sequences, DataIssues())[0]
    collected = collect_raw(
        folders, truths, PROTOCOLS["vot"], {"student": Cost(10_988_025, 6_742_349_952, "DiMP & co")}
    )
    first, *others = collected.trackers
    return replace(collected, trackers=(replace(first, frames_per_second=41.26, missing=("<gone>",)), *others), total=7)


@pytest.fixture(scope="module")
def html(contents: Contents) -> str:
    return render_page(contents, examples=2, created=CREATED)


@pytest.fixture(scope="module")
def tree(html: str) -> Node:
    return parse(html)


def test_the_page_is_complete_and_loads_nothing(html: str, tree: Node) -> None:
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html
    assert not tree.all("link")
    sources = [node.attributes["src"] or "" for node in tree.walk() if "src" in node.attributes]
    assert len(sources) > 10
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    ids = [node.attributes["id"] for node in tree.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    links = [node.attributes["href"] or "" for node in tree.all("a")]
    assert {link[1:] for link in links if link[0] == "#"} <= set(ids)
    assert all(link[0] == "#" for link in links)
    labeled = [node.attributes["aria-labelledby"] for node in tree.walk() if "aria-labelledby" in node.attributes]
    assert set(labeled) <= set(ids)
    assert tree.one("meta", name="viewport")


def test_drawings_images_and_tables_have_texts(tree: Node) -> None:
    assert all(node.attributes.get("alt") for node in tree.all("img"))
    for drawing in tree.all("svg"):
        hidden = drawing.attributes.get("aria-hidden") == "true" or drawing.has({"class": "dot"})
        assert hidden or drawing.all("title")
    for table in tree.all("table"):
        assert table.one("caption").text
        assert all(head.attributes["scope"] in ("col", "row") for head in table.all("th"))
        widths = {len(row.children) for row in table.all("tr")}
        assert len(widths) == 1


def test_names_are_escaped(html: str, tree: Node, contents: Contents) -> None:
    shown = tree.one("body").text
    for name in (*(tracker.name for tracker in contents.trackers), *contents.sequences, "<LI>", "<gone>", "DiMP & co"):
        assert name in shown
    assert not [node for node in tree.walk() if node.tag in ("b", "co", "li>", "gone")]
    alts = " ".join(node.attributes["alt"] or "" for node in tree.all("img"))
    assert "O'Neill & <b>co" in alts
    assert len(re.findall("<script", html)) == len(re.findall("</script", html)) == 1


def test_the_overall_table_has_the_scores(tree: Node, contents: Contents) -> None:
    table = tree.one("section", id="overall").one("table")
    shown = {row[0]: row[1:] for row in rows(table)}
    expected = {}
    for each in contents.trackers:
        figures = json.loads(each.scores.to_json())["overall"]
        dash = "\u2013"
        cost = ["11.0", "6.74"] if each.name == "student" else [dash, dash]
        speed = "41.3" if each.frames_per_second else dash
        expected[each.name] = [*(f"{figures[name]:.1f}" for name in ("PR", "NPR", "SR")), *cost, speed]
    assert shown == expected
    rates = [float(row[3]) for row in rows(table)]
    assert rates == sorted(rates, reverse=True)
    assert [head.text for head in table.all("th", aria_sort="descending")] == ["SR"]
    for column in (1, 2, 3):
        cells = [row.children[column] for row in table.one("tbody").all("tr")]
        ranked = sorted({float(cell.text) for cell in cells}, reverse=True)
        for cell in cells:
            rank = {0: "best", 1: "second"}.get(ranked.index(float(cell.text)))
            assert cell.attributes.get("class") == rank


def test_missing_results_are_listed(tree: Node) -> None:
    notes = tree.one("section", id="overall").one("ul", class_="notes").text
    assert "6 of 7 sequences are compared" in notes
    assert "O'Neill & <b>co has no result for 1 sequence<gone>" in notes


PLOTS = {
    "precision": (PRECISION_THRESHOLDS, "PR"),
    "normalized": (NORMALIZED_THRESHOLDS, "NPR"),
    "success": (SUCCESS_THRESHOLDS, "SR"),
}


@pytest.mark.parametrize("curve", list(PLOTS))
def test_the_plots_points_are_the_curves(curve: str, tree: Node, contents: Contents) -> None:
    thresholds, figure = PLOTS[curve]
    (plot,) = [each for each in tree.all("figure", class_="plot") if each.all("title", id=f"{curve}-title")]
    # The axes, from their own tick labels.
    texts = [node for node in plot.one("g", class_="ticks").all("text") if "transform" not in node.attributes]
    across = [node for node in texts if "class" not in node.attributes][:-1]
    up = [node for node in texts if "class" in node.attributes]
    to_x = np.polyfit([float(node.attributes["x"]) for node in across], [float(node.text) for node in across], 1)
    to_y = np.polyfit([float(node.attributes["y"]) - 4 for node in up], [float(node.text) for node in up], 1)
    for place, tracker in enumerate(contents.trackers):
        expected = getattr(tracker.scores.overall, curve)
        line = plot.one("g", data_tracker=str(place)).one("polyline")
        points = np.array([point.split(",") for point in line.attributes["points"].split()], dtype=float)
        np.testing.assert_allclose(np.polyval(to_x, points[:, 0]), thresholds, atol=2e-3 * thresholds[-1])
        np.testing.assert_allclose(np.polyval(to_y, points[:, 1]), expected, atol=0.05)
        entry = plot.one("li", data_tracker=str(place))
        assert entry.one(class_="name").text == tracker.name
        value = entry.one(class_="value")
        assert value.text == f"{getattr(tracker.scores.overall, figure):.1f}"
        assert value.attributes["data-values"].split() == [f"{each:.1f}" for each in expected]
    figures = [float(value.text) for value in plot.all(class_="value")]
    assert figures == sorted(figures, reverse=True)
    assert len(plot.one(class_="drawing").attributes["data-labels"].split("\n")) == len(thresholds)


def test_attributes_are_sorted_and_their_figures_and_marks_the_scores(
    tree: Node, contents: Contents, small_benchmark
) -> None:
    having = {}
    for name, attributes in small_benchmark.attributes.items():
        for attribute in attributes:
            having.setdefault(attribute, []).append(name)
    order = sorted(having, key=lambda attribute: -len(having[attribute]))
    assert order == ["OCC", "TC", "<LI>"]
    for view in tree.one("section", id="attributes").all(class_="view"):
        figure = view.attributes["data-view"]
        shown = rows(view.one("table"))
        assert [row[0] for row in shown] == [*order, "all sequences"]
        assert [row[1] for row in shown] == ["4", "3", "1", "6"]
        assert [each.text for each in view.all(class_="attribute")] == order
        ticks = [(float(tick.text), percent(tick)) for tick in view.one(class_="axis").children]
        to_value = np.polyfit([place for _, place in ticks], [value for value, _ in ticks], 1)
        for attribute, row, track in zip(order, shown, view.all(class_="track"), strict=False):
            scored = [
                np.mean([getattr(each.scores.sequences[name], figure) for name in having[attribute]])
                for each in contents.trackers
            ]
            assert row[2:] == [f"{value:.1f}" for value in scored]
            marked = [np.polyval(to_value, percent(track.one("svg", class_=f"c{place}"))) for place in range(3)]
            np.testing.assert_allclose(marked, scored, atol=0.02)


def percent(node: Node) -> float:
    return float(re.search(r"left:([\d.]+)%", node.attributes["style"])[1])


def test_sections_without_data_are_left_out(contents: Contents, small_benchmark) -> None:
    alone = replace(contents, trackers=contents.trackers[:1], total=6)
    tree = parse(render_page(alone, examples=2, created=CREATED))
    assert not tree.all(id="pairs")
    assert "#pairs" not in [node.attributes["href"] for node in tree.all("a")]
    assert "best" not in tree.one("section", id="overall").text
    assert not tree.all("td", class_="best")

    scores = [replace(each.scores, attributes={}, attribute_sequences={}) for each in contents.trackers]
    bare = [replace(each, scores=score, boxes={}) for each, score in zip(contents.trackers, scores, strict=True)]
    tree = parse(render_page(Contents(tuple(bare), {}, 7), examples=2, created=CREATED))
    assert tree.one("section", id="attributes").text == "AttributesLeft out: the sequences have no attributes."
    assert "they need raw results and the ground truth" in tree.one("section", id="pairs").text
    assert not tree.all("img")
    assert not tree.all(class_="closeup")

    imageless = read_ground_truth("vot", small_benchmark.sequences, None, DataIssues())[0]
    tree = parse(render_page(replace(contents, ground_truth=imageless), examples=2, created=CREATED))
    assert "Frames are left out: there are no images." in tree.one("section", id="pairs").text
    assert not tree.all("img")
    assert tree.all(class_="closeup")


def pairs(tree: Node) -> list[tuple[Node, str, str]]:
    found = []
    for view in tree.one("section", id="pairs").all(class_="pair"):
        first, _, second = view.attributes["data-view"].partition(" \u2013 ")
        found.append((view, first, second))
    return found


def test_every_pair_is_compared_on_every_sequence(tree: Node, contents: Contents) -> None:
    names = [tracker.name for tracker in contents.trackers]
    assert [(first, second) for _, first, second in pairs(tree)] == [
        (names[0], names[1]),
        (names[0], names[2]),
        (names[1], names[2]),
    ]
    rates = {
        each.name: {name: scores.SR for name, scores in each.scores.sequences.items()} for each in contents.trackers
    }
    for view, first, second in pairs(tree):
        chart = view.one("figure", class_="wide")
        order = chart.one(class_="drawing").attributes["data-labels"].split("\n")
        assert sorted(order) == sorted(contents.sequences)
        differences = [rates[first][name] - rates[second][name] for name in order]
        assert differences == sorted(differences, reverse=True)
        shown = [value.attributes["data-values"].split(" ") for value in chart.all(class_="value")]
        assert shown[0] == [f"{rates[first][name]:.1f}" for name in order]
        assert shown[1] == [f"{rates[second][name]:.1f}" for name in order]
        printed = [float(value.replace("\u2212", "-")) for value in shown[2]]
        np.testing.assert_allclose(printed, differences, atol=0.051)
        # A bar's height, from the axis's own labels.
        scale = [
            (float(re.search(r"top:(.+)%", each.attributes["style"])[1]), float(each.text.replace("\u2212", "-")))
            for each in chart.one(class_="scale").children
        ]
        to_value = np.polyfit(*zip(*scale, strict=True), 1)
        ends = {
            int(place): np.polyval(to_value, float(end) / 10)
            for path in chart.all("path", class_="bars")
            for place, end in re.findall(r"M(\d+) [\d.]+V([\d.]+)h", path.attributes["d"])
        }
        np.testing.assert_allclose([ends.get(place, 0) for place in range(len(order))], differences, atol=0.2)
        ahead, behind = sum(value >= 0.05 for value in differences), sum(value <= -0.05 for value in differences)
        counts = f"{first} is ahead on {ahead} sequence{'s' if ahead != 1 else ''}, {second} on {behind}"
        assert counts in view.text


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[0] + one[2], other[0] + other[2]), min(one[1] + one[3], other[1] + other[3])
    shared = max(right - left, 0) * max(bottom - top, 0)
    return shared / (one[2] * one[3] + other[2] * other[3] - shared)


def test_closeups_show_the_largest_leads_and_the_divergence(tree: Node, small_benchmark) -> None:
    diverged = 0
    for view, first, second in pairs(tree):
        table = {row[0]: row for row in rows(view.one("table"))}
        closeups = view.all("article", class_="closeup")
        assert len(closeups) >= 2
        assert {f"#{closeup.attributes['id']}" for closeup in closeups} == {
            node.attributes["href"] for node in view.all("a")
        }
        for closeup in closeups:
            name = closeup.one("h4").text
            truth = small_benchmark.truths[name]
            both = [
                # The first box is the truth, by the rule.
                [
                    1.0,
                    *(overlap(*each) for each in zip(small_benchmark.boxes[tracker][name][1:], truth[1:], strict=True)),
                ]
                for tracker in (first, second)
            ]
            entries = closeup.one("figure", class_="timeline").all(class_="value")
            assert [end.text for end in closeup.one(class_="ends").all("span")] == ["frame 1", "30"]
            for entry, each in zip(entries, both, strict=True):  # 30 frames are 6 stretches
                means = [f"{np.mean(each[start : start + 5]):.2f}" for start in range(0, 30, 5)]
                assert entry.attributes["data-values"].split(" ") == means
            lead = np.subtract(*both)
            captions = {}
            for figure in closeup.one(class_="thumbnails").all("figure"):
                number, _, why = figure.one("strong").text.removeprefix("Frame ").partition(": ")
                for reason in why.split(", "):
                    captions[reason] = int(number) - 1
                image = figure.one("img")
                data = base64.b64decode(image.attributes["src"].partition(",")[2])
                decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
                height, width = int(image.attributes["height"]), int(image.attributes["width"])
                assert decoded.shape == (height, width, 3) == (480, 320, 3)
                shown = re.findall(r"\d\.\d\d", figure.one("figcaption").text)
                assert shown == [f"{each[int(number) - 1]:.2f}" for each in both]
            if lead.max() > 0:
                assert captions[f"largest lead of {first}"] == lead.argmax()
            if lead.min() < 0:
                assert captions[f"largest lead of {second}"] == lead.argmin()
            won = (lead if lead.sum() >= 0 else -lead) - 0.25
            left = [sum(won[start:]) for start in range(len(won))]
            if max(left) > 0:
                diverged += 1
                at = int(np.argmax(left))
                assert captions["divergence"] == at
                assert ("10 frames before" in captions) == (at >= 10)
                assert captions.get("10 frames after", at + 10) == at + 10
                assert f"the trackers diverge at frame {at + 1} of 30" in closeup.text
                assert table[name][4] == str(at + 1)
            else:
                assert "divergence" not in captions
                assert "the trackers do not diverge" in closeup.text
                assert table[name][4] == "never"
    assert diverged >= 4


def test_every_sequence_is_in_the_last_table(tree: Node, contents: Contents) -> None:
    for view in tree.one("section", id="sequences").all(class_="view"):
        figure = view.attributes["data-view"]
        assert rows(view.one("table")) == [
            [name, "30", *(f"{getattr(each.scores.sequences[name], figure):.1f}" for each in contents.trackers)]
            for name in contents.sequences
        ]


def test_the_footer_has_protocol_version_and_date(tree: Node) -> None:
    shown = tree.one("footer").text
    assert PROTOCOLS["vot"].description in shown
    assert "mmdistill" in shown
    assert "2026-01-02" in shown


def test_the_same_contents_give_the_same_page_but_for_the_date(html: str, contents: Contents) -> None:
    assert render_page(contents, examples=2, created=CREATED) == html
    other = render_page(contents, examples=2, created=date(2027, 3, 4))
    assert other != html
    assert other.replace("2027-03-04", "2026-01-02") == html
    assert "<h1>My &lt;title&gt;</h1>" in render_page(contents, examples=0, created=CREATED, title="My <title>")


def test_a_frame_that_can_t_be_read_is_left_out(
    contents: Contents, small_benchmark, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(small_benchmark.sequences, tmp_path / "sequences")
    truths = read_ground_truth("vot", None, tmp_path / "sequences", DataIssues())[0]
    for path in (tmp_path / "sequences").glob("*/tir/*.jpg"):
        path.write_bytes(b"")
    tree = parse(render_page(replace(contents, ground_truth=truths), examples=1, created=CREATED))
    assert not tree.all("img")
    assert "This frame's images can't be read." in tree.one("section", id="pairs").text
    assert "the report leaves this frame out" in caplog.text
