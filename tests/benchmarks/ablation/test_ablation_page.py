"""What the page about CMD's tables says was measured is what the ablation's committed output holds."""

import importlib
from typing import Any

import pytest
from ablation_toy import part
from written_figures import ahead, figures, measured, prose

PAGE = "docs/how_far_from_the_paper.md"
SHOWN = ("PR", "SR")


def claims_table(claims: Any) -> list[str]:
    """The lines of a table of verdicts, as the page shows them."""
    lines: list[str] = importlib.import_module("parts.claims").claims_table(claims, SHOWN)
    return lines


def test_the_ablation_is_what_was_measured() -> None:
    report, single = measured("ablation"), measured("ablation_single")
    for name in ("1", "2", "3", "4"):
        assert figures(PAGE, f"ablation {name}") == part("report").table(report, name)
    assert figures(PAGE, "ablation single") == part("report").table(single, "single")
    assert figures(PAGE, "ablation choice") == part("report").choice_table(single)
    for same in ("experiment", "choice"):
        assert report[same] == single[same]
    assert report["left"] == []
    assert {tuple(row["seeds"]) for row in report["rows"].values()} == {("0", "1", "2")}
    assert figures(PAGE, "ablation claims") == claims_table(report["claims"])
    assert figures(PAGE, "ablation_sizes") == part("sizes").table()
    causes, tried = importlib.import_module("ablation_causes"), measured("ablation_causes")
    assert figures(PAGE, "ablation_causes") == causes.table(tried)
    assert figures(PAGE, "ablation_causes scores") == causes.confidence_table(tried)
    assert tried["teacher"] == report["teacher"]
    assert tried["left"] == []


def test_what_cmd_closes_is_said_against_either_student() -> None:
    spread = importlib.import_module("parts.spread")
    report, page = measured("ablation"), prose(PAGE)
    own = [spread.with_spread(report["rows"]["cmd"][f"{figure} gap closed"], unit=" %") for figure in SHOWN]
    assert "CMD closes {} of the gap in PR and {} in SR.".format(*own) in page
    students = measured("ablation_slower")["by seed"]
    against = []
    for figure in SHOWN:
        shares = []
        for seed, rows in report["by seed"].items():
            low, high = students[seed]["student"][figure], rows["teacher"][figure]
            shares.append(100 * (rows["cmd"][figure] - low) / (high - low))
        against.append(spread.with_spread(spread.mean_and_deviation(shares), unit=" %"))
    assert "CMD of Table 1 closes {} of the gap in PR and {} in SR.".format(*against) in page


def test_what_each_part_does_alone_is_what_was_measured() -> None:
    page, single = prose(PAGE), measured("ablation_single")
    assert single["left"] == []

    def gains(row: str, base: str) -> list[str]:
        return [ahead(single["by seed"], row, base, figure) for figure in SHOWN]

    scfd, hfrd, mpsd = (gains(row, "student") for row in ("scfd", "hfrd", "mpsd"))
    assert "SCFD gains {} in PR and {} in SR, and HFRD {} in PR and {} in SR:".format(*scfd, *hfrd) in page
    assert f"MPSD loses {mpsd[0].removeprefix('-')} in PR; what it gains in SR is within chance." in page
    alone = {claim: each for claim, each in single["claims"].items() if claim.endswith("alone")}
    assert figures(PAGE, "ablation single claims") == claims_table(alone)
    verdicts = [[each[figure]["beyond the spread"] for figure in SHOWN] for each in alone.values()]
    assert verdicts == [["the reverse", "within the spread"], ["yes", "yes"]]
    assert "it is {} ahead in PR and {} in SR.".format(*gains("scfd_mpsd", "scfd_blocks")) in page
    assert "on the blocks alone, {} and {}.".format(*gains("mpsd", "blocks")) in page
    assert "both after SCFD: {} in PR, {} in SR.".format(*gains("scfd", "scfd_blocks")) in page


def test_what_caf_gains_is_less_than_any_error() -> None:
    report = measured("ablation")
    said = f"CAF gains {ahead(report['by seed'], 'caf', 'scfd', 'SR')} on it in SR"
    assert said in prose(PAGE)
    errors = [each["SR"]["error over sequences"] for each in report["claims"].values()]
    assert min(errors) > 0.3


def test_what_the_suspects_did_is_what_was_measured() -> None:
    tried, page = measured("ablation_causes")["tries"], prose(PAGE)

    def gained(name: str, base: str) -> str:
        return " and ".join(f"{round(tried[name][figure] - tried[base][figure], 1):.1f}" for figure in SHOWN)

    longer = f"CMD gains {gained('cmd_long', 'cmd')} points, the student alone {gained('student_long', 'student')}."
    teachers = f"gains {gained('teacher_half', 'teacher')}, its student no more than {gained('cmd_half', 'cmd')}:"
    parts = f"MPSD gains {gained('scfd_mpsd', 'scfd')} on SCFD, HFRD {gained('cmd', 'scfd_mpsd')} on both."
    assert longer in page
    assert f"without a limit CMD gains {gained('cmd_unclipped', 'cmd')}." in page
    assert teachers in page
    assert f"ten times the beta CMD gains {gained('cmd_beta', 'cmd')};" in page
    assert f"alone gain {gained('blocks', 'student')} on concatenation." in page
    assert parts in page
    small = [
        abs(tried[name][part] - tried["cmd"][part])
        for name in ("cmd_warm", "cmd_adaptors", "cmd_kept")
        for part in SHOWN
    ]
    assert max(small) < 1


def test_what_cmd_gains_on_a_gpu_is_what_was_measured() -> None:
    report = measured("ablation_gpu")
    rows = [row for row in report["rows"] if row != "teacher"]
    assert figures(PAGE, "ablation gpu") == part("report").rows_table(report, rows)
    compared = [("cmd", "student"), ("scfd", "student"), ("cmd", "scfd")]
    lines = part("report").intervals_table(report["by seed"], compared)
    assert figures(PAGE, "ablation gpu intervals") == lines
    assert [[cell.partition(": ")[2].split()[0] for cell in line.split(" | ")[1:]] for line in lines[2:]] == [
        ["includes", "excludes"],
        ["includes", "excludes"],
        ["includes", "includes"],
    ]
    assert report["left"] == []
    assert {tuple(row["seeds"]) for row in report["rows"].values()} == {("0", "1", "2", "3", "4")}
    by_seed = report["by seed"].values()
    assert all(rows["cmd"]["PR"] > rows["student"]["PR"] for rows in by_seed)
    assert f"student of seed 2 has a PR of {report['by seed']['2']['student']['PR']:.1f}," in prose(PAGE)
    training = report["experiment"]["size"]["student"]
    assert f"sees {training['steps'] * training['sequences']:,} samples" in prose(PAGE)
    options = f"--teacher-steps {report['experiment']['size']['teacher']['steps']} --steps {training['steps']}"
    assert options in prose(PAGE)


@pytest.mark.parametrize("name", ["pretrained", "slower", "longer", "beta", "nightly"])
def test_the_ablations_controls_are_what_was_measured(name: str) -> None:
    report = measured(f"ablation_{name}")
    rows = [row for row in report["rows"] if row != "teacher"]
    assert figures(PAGE, f"ablation {name}") == part("report").rows_table(report, rows)
    assert report["rows"]["student"]["seeds"] == (["0", "1"] if name == "nightly" else ["0", "1", "2"])


def test_what_ten_times_the_beta_does_is_what_was_measured() -> None:
    page, usual = prose(PAGE), measured("ablation_single")["by seed"]
    report = measured("ablation_beta")
    more = report["by seed"]
    both = {seed: {"more": rows["cmd"], "usual": usual[seed]["cmd"]} for seed, rows in more.items()}
    gains = [
        " and ".join(ahead(by_seed, row, base, figure) for figure in SHOWN)
        for by_seed, row, base in ((both, "more", "usual"), (more, "cmd", "scfd_mpsd"), (more, "hfrd", "student"))
    ]
    assert "CMD gains {} on itself with the beta that was chosen, and HFRD after both {}.".format(*gains) in page
    assert f"Alone HFRD helps again, by {gains[2]}." in page
    assert [report["claims"]["HFRD helps, alone"][figure]["beyond the spread"] for figure in SHOWN] == ["yes", "yes"]
    teacher, cmd, without = (
        sum(rows[row]["tracker's score"]["on target"] for rows in more.values()) / len(more)
        for row in ("teacher", "cmd", "scfd_mpsd")
    )
    assert f"teacher's, {teacher:.2f} on the target: CMD's are {cmd:.2f}, SCFD and MPSD's {without:.2f}." in page
    for seed, rows in more.items():
        for row in ("student", "scfd_mpsd"):
            assert [rows[row][figure] for figure in SHOWN] == [usual[seed][row][figure] for figure in SHOWN]


def test_what_the_smallest_size_does_is_what_was_measured() -> None:
    page, by_seed = prose(PAGE), measured("ablation_nightly")["by seed"]
    by_pr, by_sr = (ahead(by_seed, "teacher", "student", figure) for figure in SHOWN)
    assert f"ahead of the student alone by {by_sr} in SR and by {by_pr} in PR, which is no gap." in page
    assert f"CMD falls behind by {ahead(by_seed, 'student', 'cmd', 'PR')} in PR;" in page
    parts, lost = (ahead(by_seed, "scfd_mpsd", base, "SR") for base in ("student", "cmd"))
    assert f"SCFD and MPSD gain {parts}, of which HFRD loses {lost}." in page


def test_what_length_does_is_what_was_measured() -> None:
    page, usual, longer = prose(PAGE), measured("ablation"), measured("ablation_longer")
    assert longer["teacher"] == usual["teacher"]
    gains = {
        row: " and ".join(f"{longer['rows'][row][figure][0] - usual['rows'][row][figure][0]:.1f}" for figure in SHOWN)
        for row in ("student", "cmd")
    }
    assert gains["student"].replace(" and", " points of PR and") + f" of SR, CMD {gains['cmd']}." in page
    by_pr, by_sr = (ahead(longer["by seed"], "cmd", "student", figure) for figure in SHOWN)
    error = longer["claims"]["All three help: CMD"]["PR"]["error over sequences"]
    assert f"ahead in SR, by {by_sr}; in PR {by_pr} is not beyond the error over sequences, {error}:" in page

    def attribute(row: str, name: str) -> float:
        return sum(float(rows[row]["attributes"][name]["PR"]) for rows in longer["by seed"].values())

    assert attribute("cmd", "fast_motion") > attribute("student", "fast_motion")
    assert attribute("cmd", "scale_variation") < attribute("student", "scale_variation")
