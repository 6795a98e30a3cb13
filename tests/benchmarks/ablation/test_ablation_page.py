"""The page's tables match the ablation's committed reports."""

import importlib
from dataclasses import replace
from typing import Any

import pytest
from ablation_toy import part
from written_figures import figures, measured

PAGE = "docs/how_far_from_the_paper.md"
METRICS = ("PR", "SR")

FUSIONS = [(row, "scfd") for row in ("saf", "caf", "tf", "scfd_mpsd")]
"""Table 3's rows, and the row that they are compared with."""

CONTROLS = {
    "pretrained": [],
    "slower": [("cmd", "student"), ("cmd", "scfd")],
    "longer": [("cmd", "student")],
    "beta": [("cmd", "student"), ("cmd", "scfd_mpsd"), ("hfrd", "student")],
    "nightly": [("cmd", "student"), ("scfd_mpsd", "student"), ("cmd", "scfd_mpsd")],
}
"""The controls' comparisons on the page."""


def claims_table(report: Any, only: str = "") -> list[str]:
    """The lines of a table of the paper's claims, as the page shows them."""
    claims = [claim for claim in part("rows").CLAIMS if claim[0].endswith(only)]
    statistics = importlib.import_module("parts.seed_statistics")
    lines: list[str] = statistics.claim_intervals_table(claims, report, METRICS)
    return lines


def test_the_tables_match_the_report() -> None:
    report, single = measured("ablation"), measured("ablation_single")
    for name in ("1", "2", "3", "4"):
        assert figures(PAGE, f"ablation {name}") == part("report").table(report, name)
    assert figures(PAGE, "ablation 3 intervals") == part("report").intervals_table(report["by seed"], FUSIONS)
    assert figures(PAGE, "ablation single") == part("report").table(single, "single")
    assert figures(PAGE, "ablation choice") == part("report").choice_table(single)
    for same in ("experiment", "choice"):
        assert report[same] == single[same]
    assert report["unfinished"] == []
    assert {tuple(row["seeds"]) for row in report["rows"].values()} == {("0", "1", "2")}
    assert figures(PAGE, "ablation claims") == claims_table(report)
    assert figures(PAGE, "ablation_sizes") == part("sizes").table()
    causes, tried = importlib.import_module("ablation_causes"), measured("ablation_causes")
    assert figures(PAGE, "ablation_causes") == causes.table(tried)
    assert figures(PAGE, "ablation_causes scores") == causes.confidence_table(tried)
    assert tried["teacher"] == report["teacher"]
    assert tried["unfinished"] == []


def test_the_single_parts_match_the_report() -> None:
    single = measured("ablation_single")
    assert single["unfinished"] == []
    assert figures(PAGE, "ablation single claims") == claims_table(single, "alone")
    parts = [("scfd", "student"), ("scfd_mpsd", "scfd_blocks"), ("mpsd", "blocks"), ("scfd_blocks", "scfd")]
    assert figures(PAGE, "ablation single parts") == part("report").intervals_table(single["by seed"], parts)


def test_the_committed_settings_are_the_presets() -> None:
    experiment = measured("ablation")["experiment"]
    size = part("sizes").SIZES["cpu"]
    assert part("runs").Experiment(size, experiment["pairs"], experiment["trunk"]).describe() == experiment


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


def test_the_gpu_tables_match_the_report() -> None:
    report = measured("ablation_gpu")
    rows = [row for row in report["rows"] if row != "teacher"]
    assert figures(PAGE, "ablation gpu") == part("report").rows_table(report, rows)
    compared = [("cmd", "student"), ("scfd", "student"), ("cmd", "scfd")]
    lines = part("report").intervals_table(report["by seed"], compared)
    assert figures(PAGE, "ablation gpu intervals") == lines
    assert report["unfinished"] == []
    assert {tuple(row["seeds"]) for row in report["rows"].values()} == {("0", "1", "2", "3", "4")}


@pytest.mark.parametrize(("name", "compared"), CONTROLS.items())
def test_the_controls_match_the_reports(name: str, compared: list[tuple[str, str]]) -> None:
    report = measured(f"ablation_{name}")
    rows = [row for row in report["rows"] if row != "teacher"]
    assert figures(PAGE, f"ablation {name}") == part("report").rows_table(report, rows)
    if compared:
        lines = part("report").intervals_table(report["by seed"], compared)
        assert figures(PAGE, f"ablation {name} intervals") == lines
    assert report["rows"]["student"]["seeds"] == (["0", "1"] if name == "nightly" else ["0", "1", "2"])


def test_the_beta_control_does_not_change_rows_without_beta() -> None:
    usual = measured("ablation_single")["by seed"]
    for seed, rows in measured("ablation_beta")["by seed"].items():
        for row in ("student", "scfd_mpsd"):
            assert [rows[row][figure] for figure in METRICS] == [usual[seed][row][figure] for figure in METRICS]


def test_the_longer_control_has_the_same_teacher() -> None:
    assert measured("ablation_longer")["teacher"] == measured("ablation")["teacher"]
