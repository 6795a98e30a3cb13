"""The page's tables match the ablation's committed reports."""

import importlib
import re
from dataclasses import replace

import pytest
from ablation_toy import part
from written_figures import ROOT, figures, measured

PAGE = "docs/how_far_from_the_paper.md"
METRICS = ("PR", "SR")
CONTROLS = ("pretrained", "slower", "longer", "beta", "nightly", "gpu")


def test_the_tables_match_the_reports() -> None:
    tables = importlib.import_module("ablation_page").tables()
    marks = re.findall(r"<!-- figures: (.+) -->", (ROOT / PAGE).read_text())
    assert len(marks) > 20
    for mark in marks:
        assert figures(PAGE, mark) == tables[mark], mark


def test_tables_are_replaced_after_their_marks() -> None:
    text = "a\n\n<!-- figures: one -->\n\n| old |\n| - |\n\nb\n\n<!-- figures: two -->\n\n| old |\n"
    replaced = importlib.import_module("ablation_page").replace_tables(
        text, {"one": ["| new |"], "two": ["| x |", "| y |"], "three": []}
    )
    assert replaced == "a\n\n<!-- figures: one -->\n\n| new |\n\nb\n\n<!-- figures: two -->\n\n| x |\n| y |\n"


def test_the_reports_are_complete() -> None:
    report, single, tried = measured("ablation"), measured("ablation_single"), measured("ablation_causes")
    for same in ("experiment", "choice"):
        assert report[same] == single[same]
    assert report["unfinished"] == single["unfinished"] == tried["unfinished"] == []
    assert {tuple(row["seeds"]) for row in report["rows"].values()} == {("0", "1", "2")}
    assert tried["teacher"] == report["teacher"]


@pytest.mark.parametrize("name", CONTROLS)
def test_the_controls_are_complete(name: str) -> None:
    report = measured(f"ablation_{name}")
    assert report["unfinished"] == [] or name == "pretrained"
    seeds = {"nightly": ["0", "1"], "gpu": ["0", "1", "2", "3", "4"]}.get(name, ["0", "1", "2"])
    assert report["rows"]["student"]["seeds"] == seeds


def test_settings_that_change_no_result_are_not_compared() -> None:
    size, experiment = part("sizes").SIZES["cpu"], part("runs").Experiment
    others = {"workers": 3, "checkpoint_every": 7, "log_gradient_shares": 10, "max_skipped": 1, "max_replaced": 2}
    others["compile"] = True
    described = [
        experiment(replace(size, teacher=replace(size.teacher, **changes))).describe()
        for changes in ({}, others, {"seed": size.teacher.seed + 1})
    ]
    assert described[0] == described[1]
    assert described[0] != described[2]


def test_the_beta_control_does_not_change_rows_without_beta() -> None:
    usual = measured("ablation_single")["by seed"]
    for seed, rows in measured("ablation_beta")["by seed"].items():
        for row in ("student", "scfd_mpsd"):
            assert [rows[row][figure] for figure in METRICS] == [usual[seed][row][figure] for figure in METRICS]


def test_the_longer_control_has_the_same_teacher() -> None:
    assert measured("ablation_longer")["teacher"] == measured("ablation")["teacher"]
