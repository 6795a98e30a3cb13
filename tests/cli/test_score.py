"""``mmdistill score``: result files of any tracker."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import NAMES, fails, lasher_copy, perfect_results, run

from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.datasets.lasher import official_test_names


def test_result_files_are_scored(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sequence in clips.iterdir():
        write_boxes(tmp_path / "results" / f"{sequence.name}.txt", read_boxes(sequence / "groundtruth.txt"))
    scores = tmp_path / "scores.json"
    assert (
        run(
            "score",
            "--benchmark",
            "vot",
            "--annotations",
            clips,
            "--results",
            tmp_path / "results",
            "--json",
            scores,
        )
        == 0
    )
    overall = json.loads(scores.read_text())["overall"]
    assert overall == {"PR": 100.0, "NPR": 100.0, "SR": pytest.approx(100 * 20 / 21, abs=1e-3)}
    assert "overall" in capsys.readouterr().out


def test_no_images_are_needed(tmp_path: Path) -> None:
    boxes = np.array([[10.0, 10.0, 20.0, 20.0]] * 3)
    write_boxes(tmp_path / "truth" / "car.txt", boxes)
    write_boxes(tmp_path / "truth" / "man" / "groundtruth_rect.txt", boxes)
    write_boxes(tmp_path / "results" / "car.txt", boxes + np.array([100, 0, 0, 0]))
    write_boxes(tmp_path / "results" / "Some_man.txt", boxes)
    score = ["--annotations", tmp_path / "truth", "--results", tmp_path / "results", "--json", tmp_path / "scores.json"]
    assert run("score", "--benchmark", "vot", *score) == 0
    sequences = json.loads((tmp_path / "scores.json").read_text())["sequences"]
    # The first frame counts as ground truth: a third of the frames of a tracker that is lost at once.
    assert {name: round(figures["PR"]) for name, figures in sequences.items()} == {"car": 33, "man": 100}


def test_results_of_others_are_scored_and_exported(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    assert (
        run(
            "score",
            "--benchmark",
            "rgbt234",
            "--annotations",
            rgbt234,
            "--results",
            results,
            "--json",
            tmp_path / "a.json",
        )
        == 0
    )
    printed = capsys.readouterr().out
    assert "rgbt234: mean of sequences; PR: center error <= 20 px" in printed
    assert "  results named <tracker>_<sequence>: 2" in printed
    assert printed.startswith("rgbt234: 2 of 234 sequences\n")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["overall"] == {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    again = [
        "score",
        "--benchmark",
        "rgbt234",
        "--annotations",
        rgbt234,
        "--results",
        results,
        "--export",
        tmp_path / "for_toolkit",
    ]
    assert run(*again) == 0
    exported = tmp_path / "for_toolkit" / "Some"
    assert sorted(path.name for path in exported.iterdir()) == [f"Some_{name}.txt" for name in NAMES]
    assert (
        run(
            "score",
            "--benchmark",
            "rgbt234",
            "--annotations",
            rgbt234,
            "--results",
            exported,
            "--json",
            tmp_path / "b.json",
        )
        == 0
    )
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()


def table(printed: str, title: str) -> list[list[str]]:
    """Return the rows below the head of a printed table."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{title}  ")) + 2
    return [re.split(r"\s{2,}", line) for line in lines[start : lines.index("", start)]]


def test_overall_comes_first_then_attributes_and_sequences_on_request(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    lost = read_boxes(results / "Some_car.txt")
    lost[1:] += 500
    write_boxes(results / "Some_car.txt", lost)
    (rgbt234 / "attr_txt").mkdir()
    (rgbt234 / "attr_txt" / "SequencesName.txt").write_text("\n".join(NAMES))
    for attribute, flags in (("OCC", "1\n0\n"), ("TC", "1\n1\n"), ("LI", "0\n1\n"), ("LR", "0\n0\n")):
        (rgbt234 / "attr_txt" / f"{attribute}.txt").write_text(flags)
    arguments = ["score", "--benchmark", "rgbt234", "--annotations", rgbt234, "--results", results]
    assert run(*arguments) == 0
    printed = capsys.readouterr().out
    overall = ["2 sequences, 6 frames", "66.7", "66.7", "63.5"]
    assert table(printed, "overall") == [overall]
    attributes = [["LI (1)", "33.3"], ["TC (2)", "66.7"], ["OCC (1)", "100.0"]]
    assert [row[:2] for row in table(printed, "attribute (sequences)")] == attributes
    assert printed.index("overall") < printed.index("attribute (")
    assert "boy`s bag" not in printed
    assert run(*arguments, "--per-sequence") == 0
    printed = capsys.readouterr().out
    assert [row[:2] for row in table(printed, "sequence")] == [["car", "33.3"], ["boy`s bag", "100.0"]]
    assert printed.index("attribute (") < printed.index("\nsequence")


def test_plots_are_written_as_asked_for_and_the_same_again(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    arguments = ["score", "--benchmark", "rgbt234", "--annotations", rgbt234, "--results", results, "--plot-format"]
    for folder in ("one", "two"):
        assert run(*arguments, "svg", "pdf", "--out", tmp_path / folder) == 0
    names = sorted(path.name for path in (tmp_path / "one").glob("*.[sp][vdn][gf]"))
    plots = ("normalized_precision", "precision", "success")
    assert names == [f"{plot}.{suffix}" for plot in plots for suffix in ("pdf", "svg")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert (tmp_path / "one" / name).read_bytes()[:5] in (b"%PDF-", b"<?xml")
    assert run(*arguments, "--out", tmp_path / "none") == 1
    assert "--plot-format" in capsys.readouterr().err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_named_pipe_among_the_files_is_refused_and_not_waited_for(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    for path in (results / "Some_car.txt", rgbt234 / "car" / "infrared.txt"):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert run("score", "--benchmark", "rgbt234", "--annotations", rgbt234, "--results", results) == 1
        assert f"{path}: expected a regular file, found a named pipe" in capsys.readouterr().err
        path.unlink()
        path.write_bytes(kept)


def test_boxes_are_rounded_on_request(rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    for path in results.iterdir():
        write_boxes(path, read_boxes(path) + 0.3)
    command = [
        "score",
        "--benchmark",
        "rgbt234",
        "--annotations",
        rgbt234,
        "--results",
        results,
        "--json",
        tmp_path / "scores.json",
    ]
    for options, figure in (((), False), (("--round-boxes",), True)):
        assert run(*command, *options) == 0
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert (scores["overall"]["SR"] == 95.2381) == figure
        assert scores["rule"].endswith("rounded to whole pixels") == figure
        assert scores["rule"] in capsys.readouterr().out


def test_what_can_not_be_used_may_be_left_out(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect_results(rgbt234, tmp_path / "Some")
    (rgbt234 / "car" / "visible.txt").unlink()
    command = ["score", "--benchmark", "rgbt234", "--annotations", rgbt234, "--results", results]
    assert run(*command) == 1
    assert "car/visible.txt: cannot read the file" in capsys.readouterr().err
    assert run(*command, "--on-invalid", "skip") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("rgbt234: 1 of 234 sequences; 1 is not usable: car\n")
    assert "sequences that can't be used are left out: 1" in printed
    assert "  files in the folder of results that belong to no sequence: 1" in printed
    (rgbt234 / "boy`s bag" / "visible.txt").unlink()
    assert run(*command, "--on-invalid", "skip") == 1
    assert "none of 2 sequences can be used" in capsys.readouterr().err


def test_only_the_split_is_scored_and_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = official_test_names()
    command = lasher_copy(tmp_path, [*test, "made_1", f"made_{test[0]}"])
    for name in ("made_1", f"made_{test[0]}"):  # would pull the mean down
        write_boxes(tmp_path / "mine" / f"{name}.txt", [[200, 200, 8, 6]] * 3)
    (tmp_path / "mine" / "train_sequence.txt").write_text("made_1\n")
    scores = tmp_path / "scores.json"
    assert run("score", *command, "--json", scores) == 0
    printed = capsys.readouterr().out
    line = "lasher, test split: 245 of 245 sequences; 2 outside the split are not used"
    assert printed.splitlines()[0] == line
    content = json.loads(scores.read_text())
    assert content["scored"] == line
    assert (content["split"], content["sequences_scored"], content["official_count"]) == ("test", 245, 245)
    assert content["sequences_missing"] == []
    assert content["overall"] == {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    assert sorted(content["sequences"]) == sorted(test)

    # The other sequence's file is not the missing result with a prefix, whether its annotation is there or not.
    (tmp_path / "mine" / f"{test[0]}.txt").unlink()
    for _ in range(2):
        assert run("score", *command) == 1
        error = capsys.readouterr().err
        assert f"no result for sequence {test[0]}, expected {test[0]}.txt" in error
        assert error.endswith("--partial the others are scored\n")
        assert run("score", *command, "--partial", "--json", scores) == 0
        assert f"244 of 245 sequences; 1 is without a result: {test[0]}" in capsys.readouterr().out.splitlines()[0]
        content = json.loads(scores.read_text())
        assert (content["sequences_scored"], content["sequences_missing"]) == (244, [test[0]])
        (tmp_path / "annos" / f"made_{test[0]}.txt").unlink(missing_ok=True)


def test_a_sequence_of_the_split_that_can_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = lasher_copy(tmp_path, official_test_names())
    broken = official_test_names()[7]
    (tmp_path / "annos" / f"{broken}.txt").write_text("1,2,3\n")
    assert run("score", *command) == 1
    assert f"{broken}.txt, line 1: expected 4 numbers" in capsys.readouterr().err
    assert run("score", *command, "--on-invalid", "skip", "--json", tmp_path / "scores.json") == 0
    line = f"lasher, test split: 244 of 245 sequences; 1 is not usable: {broken}"
    assert capsys.readouterr().out.splitlines()[0] == line
    assert json.loads((tmp_path / "scores.json").read_text())["sequences_missing"] == [broken]


def test_a_report_compares_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = official_test_names()[0]
    lasher_copy(tmp_path, [name, "made_1"])
    write_boxes(tmp_path / "other" / "made_1.txt", [[10 + k, 20, 8, 6] for k in range(3)])
    given = ["--benchmark", "lasher", "--annotations", tmp_path / "annos", "--out", tmp_path / "page.html"]
    command: list[object] = ["report", tmp_path / "mine", *given]
    assert run(*command) == 1
    assert "lasher, test split: 1 of 245 sequences" in capsys.readouterr().err
    assert run(*command, "--partial") == 0
    assert capsys.readouterr().out.startswith("lasher, test split: 1 of 245 sequences; 244 are not in the copy")
    assert "1 of 245 sequences" in (tmp_path / "page.html").read_text("utf-8")
    command.insert(1, tmp_path / "other")
    assert run(*command, "--partial") == 1
    assert "no result for any of 1 sequences" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["rgbt234", "--results", "HERE"], 2, "--annotations: expected the folder of the ground truth"),
        (["rgbt234", "--annotations", "HERE"], 2, "--results"),
        (["rgbt234", "--annotations", "HERE/none", "--results", "HERE"], 1, "there is none"),
        (["rgbt234", "--annotations", "HERE", "--results", "HERE", "--split", "train"], 2, "--split: only lasher has"),
        (
            ["synthetic", "--annotations", "HERE", "--results", "HERE"],
            2,
            "--annotations: synthetic video has no folder",
        ),
        (["pairs", "--annotations", "HERE", "--results", "HERE"], 2, "'pairs'"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    rgbt234: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], status: int, message: str
) -> None:
    folders = {"HERE": rgbt234, "HERE/none": rgbt234 / "none"}
    words = [folders.get(each, each) for each in arguments]
    assert message in fails(capsys, "score", "--benchmark", *words, status=status)
