"""``mmdistill evaluate`` on benchmarks as they lie on disk."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdistill.cli.benchmark_run import claim
from mmdistill.cli.main import main
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.datasets.lasher import official_test_names
from mmdistill.toolkit.image_files import IGNORED
from mmdistill.toolkit.images import MAX_PIXELS_VARIABLE, write_image

VIDEO = SyntheticSettings(size=(120, 90), target_size=(16.0, 24.0), length=3)
NAMES = ["boy`s bag", "car"]


@pytest.fixture
def rgbt234(tmp_path: Path) -> Path:
    """Two sequences as in RGBT234."""
    for name, sequence in zip(NAMES, synthetic_sequences(2, seed=0, settings=VIDEO), strict=True):
        folder = tmp_path / "RGBT234" / name
        for index in range(len(sequence)):
            for side, image in zip(("visible", "infrared"), sequence.frame(index), strict=True):
                assert image is not None
                write_image(folder / side / f"{index + 1:05d}{side[0]}.png", image)
        for file in ("visible", "infrared", "init"):
            write_boxes(folder / f"{file}.txt", sequence.boxes, decimals=0)
    return tmp_path / "RGBT234"


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, TrackerNetwork(student_settings(width=4, crop_size=96)))
    return path


def run(*arguments: object) -> int:
    return main(["evaluate", "--benchmark", "rgbt234", *map(str, arguments)])


def perfect(rgbt234: Path, folder: Path) -> Path:
    for name in NAMES:
        write_boxes(folder / f"Some_{name}.txt", read_boxes(rgbt234 / name / "visible.txt"))
    return folder


def test_results_of_others_are_scored_and_exported(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect(rgbt234, tmp_path / "Some")
    assert run("--annotations", rgbt234, "--results", results, "--json", tmp_path / "a.json") == 0
    said = capsys.readouterr().out
    assert "rgbt234: mean of sequences; PR: center error <= 20 px" in said
    assert "  results named <tracker>_<sequence>: 2" in said
    assert said.startswith("rgbt234: 2 of 234 sequences\n")
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["overall"] == {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    again = ["--annotations", rgbt234, "--results", results, "--export", tmp_path / "for_toolkit"]
    assert run(*again) == 0
    exported = tmp_path / "for_toolkit" / "Some"
    assert sorted(path.name for path in exported.iterdir()) == [f"Some_{name}.txt" for name in NAMES]
    assert run("--annotations", rgbt234, "--results", exported, "--json", tmp_path / "b.json") == 0
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()


def table(said: str, title: str) -> list[list[str]]:
    """Return the rows below the head of a printed table."""
    lines = said.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"{title}  ")) + 2
    return [re.split(r"\s{2,}", line) for line in lines[start : lines.index("", start)]]


def test_overall_comes_first_then_attributes_and_sequences_on_request(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect(rgbt234, tmp_path / "Some")
    lost = read_boxes(results / "Some_car.txt")
    lost[1:] += 500
    write_boxes(results / "Some_car.txt", lost)
    (rgbt234 / "attr_txt").mkdir()
    (rgbt234 / "attr_txt" / "SequencesName.txt").write_text("\n".join(NAMES))
    for attribute, flags in (("OCC", "1\n0\n"), ("TC", "1\n1\n"), ("LI", "0\n1\n"), ("LR", "0\n0\n")):
        (rgbt234 / "attr_txt" / f"{attribute}.txt").write_text(flags)
    arguments = ["--annotations", rgbt234, "--results", results]
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    overall = ["2 sequences, 6 frames", "66.7", "66.7", "63.5"]
    assert table(said, "overall") == [overall]
    attributes = [["LI (1)", "33.3"], ["TC (2)", "66.7"], ["OCC (1)", "100.0"]]
    assert [row[:2] for row in table(said, "attribute (sequences)")] == attributes
    assert said.index("overall") < said.index("attribute (")
    assert "boy`s bag" not in said
    assert run(*arguments, "--per-sequence") == 0
    said = capsys.readouterr().out
    assert [row[:2] for row in table(said, "sequence")] == [["car", "33.3"], ["boy`s bag", "100.0"]]
    assert said.index("attribute (") < said.index("\nsequence")


def test_plots_are_written_as_asked_for_and_the_same_again(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect(rgbt234, tmp_path / "Some")
    arguments = ["--annotations", rgbt234, "--results", results, "--plot-format"]
    for folder in ("one", "two"):
        assert run(*arguments, "svg", "pdf", "--out", tmp_path / folder) == 0
    names = sorted(path.name for path in (tmp_path / "one").glob("*.[sp][vdn][gf]"))
    plots = ("normalised_precision", "precision", "success")
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
    results = perfect(rgbt234, tmp_path / "Some")
    for path in (results / "Some_car.txt", rgbt234 / "car" / "infrared.txt"):
        kept = path.read_bytes()
        path.unlink()
        os.mkfifo(path)
        assert run("--annotations", rgbt234, "--results", results) == 1
        assert f"{path}: expected a regular file, found a named pipe" in capsys.readouterr().err
        path.unlink()
        path.write_bytes(kept)


def test_whole_pixels_are_offered(rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results = perfect(rgbt234, tmp_path / "Some")
    for path in results.iterdir():
        write_boxes(path, read_boxes(path) + 0.3)
    command = ["--annotations", rgbt234, "--results", results, "--json", tmp_path / "scores.json"]
    for options, figure in (((), False), (("--whole-pixels",), True)):
        assert run(*command, *options) == 0
        scores = json.loads((tmp_path / "scores.json").read_text())
        assert (scores["overall"]["SR"] == 95.2381) == figure
        assert scores["rule"].endswith("rounded to whole pixels") == figure
        assert scores["rule"] in capsys.readouterr().out


@pytest.mark.slow
def test_a_tracker_is_run_alone_together_and_in_processes(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = {}
    for name, options in (("one", ["--together", 1]), ("two", []), ("processes", ["--workers", 2])):
        out = tmp_path / name
        assert run("--root", rgbt234, "--weights", weights, "--out", out, "--device", "cpu", *options) == 0
        assert "frames per second" in capsys.readouterr().out
        boxes[name] = np.concatenate([read_boxes(out / "results" / f"{each}.txt") for each in NAMES])
        speed = json.loads((out / "speed.json").read_text())
        assert speed["frames"] == 4
        assert ("2 processes" in speed["how"]) == (name == "processes")
    np.testing.assert_allclose(boxes["two"], boxes["one"], atol=0.02)
    np.testing.assert_allclose(boxes["processes"], boxes["one"], atol=0.02)


def test_check_says_what_is_wrong_and_how_much_is_usable(rgbt234: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--root", rgbt234, "--check") == 0
    assert f"{rgbt234}: 2 of 2 sequences can be used" in capsys.readouterr().out
    (rgbt234 / "car" / "infrared.txt").write_text("1,2,3,4\n1,2,3\n")
    broken = sorted((rgbt234 / "boy`s bag" / "visible").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-20])
    assert run("--root", rgbt234, "--check") == 1
    captured = capsys.readouterr()
    assert "car/infrared.txt, line 2: expected 4 numbers, got '1,2,3'" in captured.out
    assert f"{rgbt234}: 1 of 2 sequences can be used" in captured.out
    assert captured.err == f"mmdistill: {rgbt234}: 1 sequences can't be used, as listed\n"
    assert run("--root", rgbt234, "--check-images") == 1
    assert f"{broken}: the image is cut off" in capsys.readouterr().out


def test_what_can_not_be_used_may_be_left_out(
    rgbt234: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = perfect(rgbt234, tmp_path / "Some")
    (rgbt234 / "car" / "visible.txt").unlink()
    command = ["--annotations", rgbt234, "--results", results]
    assert run(*command) == 1
    assert "car/visible.txt: cannot read the file" in capsys.readouterr().err
    assert run(*command, "--unusable", "skip") == 0
    said = capsys.readouterr().out
    assert said.startswith("rgbt234: 1 of 234 sequences; 1 is not usable: car\n")
    assert "unusable sequences, left out: 1" in said
    assert "  files in the folder of results that belong to no sequence: 1" in said
    (rgbt234 / "boy`s bag" / "visible.txt").unlink()
    assert run(*command, "--unusable", "skip") == 1
    assert "none of 2 sequences can be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "W", "--out", "O"], "--root: expected the folder of the sequences"),
        (["--results", "HERE"], "--annotations: expected the folder of the ground truth"),
        (["--check"], "--root: expected the folder of the sequences"),
        (["--annotations", "HERE"], "give either --results"),
        (["--annotations", "HERE", "--root", "HERE", "--weights", "W", "--out", "O"], "--annotations: a run takes"),
        (["--annotations", "HERE/none", "--results", "HERE"], "there is none"),
        (["--annotations", "HERE", "--results", "HERE", "--split", "train"], "--split: only lasher has splits"),
    ],
)
def test_what_can_not_be_done_is_one_line(
    rgbt234: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    places = {"HERE": rgbt234, "HERE/none": rgbt234 / "none", "W": weights, "O": tmp_path / "out"}
    assert run(*(places.get(each, each) for each in arguments)) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_results_of_other_weights_are_not_gone_on_from(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--root", rgbt234, "--weights", weights, "--out", tmp_path / "out", "--device", "cpu"]
    mark = tmp_path / "out" / "results" / "weights.sha256"
    mark.parent.mkdir(parents=True)
    for content in ("", "0" * 64 + "  other.safetensors\n"):
        mark.write_text(content)
        assert run(*command) == 1
        said = f"mmdistill: {tmp_path / 'out'}: holds the results of other weights; give another --out, or remove it\n"
        assert capsys.readouterr().err == said
        assert list(mark.parent.iterdir()) == [mark]


def test_pairs_can_be_checked_and_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((9, 12, 3), np.uint8)
    for side in ("visible", "lwir"):
        for name in ("I0", "I1", "I2"):
            write_image(tmp_path / "set00" / "V000" / side / f"{name}.png", image)
    command = ["evaluate", "--benchmark", "pairs", "--root", str(tmp_path)]
    assert main([*command, "--check-images"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}: 3 of 3 pairs can be used\n"
    assert main([*command, "--results", str(tmp_path)]) == 1
    assert "pairs have no labels to score by" in capsys.readouterr().err

    lwir = tmp_path / "set00" / "V000" / "lwir"
    (lwir / "I0.png").unlink()
    (lwir / "I1.png").write_bytes(b"")
    (lwir / "I2.png").write_bytes((lwir / "I2.png").read_bytes()[:-20])
    for option, usable in (("--check", 1), ("--check-images", 0)):
        assert main([*command, option]) == 1
        captured = capsys.readouterr()
        assert "files and folders that make no pair, left out: 1\n" in captured.out
        assert f"unreadable pairs: {2 - usable}\n" in captured.out
        assert "I0.png: expected a TIR image of the same name" in captured.out
        assert f"{lwir / 'I1.png'}: " in captured.out
        assert captured.out.endswith(f"{tmp_path}: {usable} of 3 pairs can be used\n")
        assert captured.err == f"mmdistill: {tmp_path}: {3 - usable} pairs can't be used, as listed\n"


@pytest.mark.parametrize("option", ["--root", "--annotations"])
def test_synthetic_video_comes_without_a_folder(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    for rest in (["--results", tmp_path], ["--weights", weights, "--out", tmp_path / "out"]):
        command = ["evaluate", "--benchmark", "synthetic", option, tmp_path, *rest]
        assert main([str(each) for each in command]) == 1
        said = f"mmdistill: {option}: synthetic video comes without a folder; leave it out, got {tmp_path}\n"
        assert capsys.readouterr().err == said
    assert not (tmp_path / "out").exists()


def test_results_on_other_sequences_of_the_same_names_are_not_gone_on_from(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def goes_on(seed: int) -> int:
        claim(tmp_path / "out", weights, f"synthetic, seed {seed}")
        rest = ["--weights", weights, "--out", tmp_path / "out", "--device", "cpu"]
        command = ["evaluate", "--benchmark", "synthetic", "--count", 1, "--seed", 2, *rest]
        return main([str(each) for each in command])

    [sequence] = synthetic_sequences(1, seed=2)
    write_boxes(tmp_path / "out" / "results" / "synthetic_0000.txt", sequence.boxes)
    assert goes_on(2) == 0
    assert "1 sequence, 100 frames  100.0" in capsys.readouterr().out
    (tmp_path / "out" / "results" / "sequences.mark").unlink()
    assert goes_on(1) == 1
    assert "holds results on synthetic, seed 1, not on synthetic, seed 2; give another" in capsys.readouterr().err


def test_a_name_that_can_not_be_exported_is_refused_before_anything_is_run(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    command = ["--root", rgbt234, "--weights", weights, "--out", tmp_path / "out"]
    assert run(*command, "--export", tmp_path / "exported", "--tracker", "a/b") == 1
    assert "--tracker: expected a name that a folder can have, got 'a/b'" in capsys.readouterr().err
    assert run(*command, "--export", tmp_path / "file") == 1
    assert f"{tmp_path / 'file'}: expected a folder to export to, it is a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_one_trains_on_a_benchmark_by_its_name(rgbt234: Path) -> None:
    sequences = training_sequences(f"rgbt234:{rgbt234}", count=0, seed=0)
    assert [sequence.name for sequence in sequences] == NAMES
    rgb, tir = sequences[1].frame(2)
    assert rgb is not None
    assert tir is not None


def lasher_copy(root: Path, names: Sequence[str]) -> list[object]:
    """Annotations and perfect results of some sequences, as a command's options."""
    for name in names:
        for place in ("annos", "mine"):
            write_boxes(root / place / f"{name}.txt", [[10 + k, 20, 8, 6] for k in range(3)])
    return ["--benchmark", "lasher", "--annotations", root / "annos", "--results", root / "mine"]


def evaluated(*arguments: object) -> int:
    return main(["evaluate", *map(str, arguments)])


def test_only_the_split_is_scored_and_said_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    test = official_test_names()
    command = lasher_copy(tmp_path, [*test, "made_1", f"made_{test[0]}"])
    for name in ("made_1", f"made_{test[0]}"):  # would pull the mean down
        write_boxes(tmp_path / "mine" / f"{name}.txt", [[200, 200, 8, 6]] * 3)
    (tmp_path / "mine" / "train_sequence.txt").write_text("made_1\n")
    scores = tmp_path / "scores.json"
    assert evaluated(*command, "--json", scores) == 0
    said = capsys.readouterr().out
    line = "lasher, test split: 245 of 245 sequences; 2 outside the split are not used"
    assert said.splitlines()[0] == line
    content = json.loads(scores.read_text())
    assert content["scored"] == line
    assert (content["split"], content["sequences_scored"], content["official_count"]) == ("test", 245, 245)
    assert content["sequences_missing"] == []
    assert content["overall"] == {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    assert sorted(content["sequences"]) == sorted(test)

    # The other sequence's file is not the missing result with a prefix, whether its annotation is there or not.
    (tmp_path / "mine" / f"{test[0]}.txt").unlink()
    for _ in range(2):
        assert evaluated(*command) == 1
        error = capsys.readouterr().err
        assert f"no result for sequence {test[0]}, expected {test[0]}.txt" in error
        assert error.endswith("--partial the others are scored\n")
        assert evaluated(*command, "--partial", "--json", scores) == 0
        assert f"244 of 245 sequences; 1 is without a result: {test[0]}" in capsys.readouterr().out.splitlines()[0]
        content = json.loads(scores.read_text())
        assert (content["sequences_scored"], content["sequences_missing"]) == (244, [test[0]])
        (tmp_path / "annos" / f"made_{test[0]}.txt").unlink(missing_ok=True)


def test_a_sequence_of_the_split_that_can_not_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = lasher_copy(tmp_path, official_test_names())
    broken = official_test_names()[7]
    (tmp_path / "annos" / f"{broken}.txt").write_text("1,2,3\n")
    assert evaluated(*command) == 1
    assert f"{broken}.txt, line 1: expected 4 numbers" in capsys.readouterr().err
    assert evaluated(*command, "--unusable", "skip", "--json", tmp_path / "scores.json") == 0
    line = f"lasher, test split: 244 of 245 sequences; 1 is not usable: {broken}"
    assert capsys.readouterr().out.splitlines()[0] == line
    assert json.loads((tmp_path / "scores.json").read_text())["sequences_missing"] == [broken]


@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_a_copy_without_the_whole_split_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    command = [*lasher_copy(tmp_path, [official_test_names()[0], "made_1"]), "--split", split]
    figures = {"test": "1 of 245", "train": "1 of 979", "all": "2 of 1,224"}[split]
    for check in ([], ["--check"]):
        assert evaluated(*command, *check) == 1
        captured = capsys.readouterr()
        assert captured.err.count("\n") == 1
        assert f"lasher, {split} split" in captured.err
        assert f"{figures} sequences" in captured.err
        assert "--partial" in captured.err
        assert evaluated(*command, *check, "--partial") == 0
        assert f"{figures} sequences" in capsys.readouterr().out.splitlines()[0]


def test_a_report_compares_the_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = official_test_names()[0]
    lasher_copy(tmp_path, [name, "made_1"])
    write_boxes(tmp_path / "other" / "made_1.txt", [[10 + k, 20, 8, 6] for k in range(3)])
    given = ["--benchmark", "lasher", "--annotations", tmp_path / "annos", "--out", tmp_path / "page.html"]
    command = [str(each) for each in ("report", tmp_path / "mine", *given)]
    assert main(command) == 1
    assert "lasher, test split: 1 of 245 sequences" in capsys.readouterr().err
    assert main([*command, "--partial"]) == 0
    assert capsys.readouterr().out.startswith("lasher, test split: 1 of 245 sequences; 244 are not in the copy")
    assert "1 of 245 sequences" in (tmp_path / "page.html").read_text("utf-8")
    command.insert(1, str(tmp_path / "other"))
    assert main([*command, "--partial"]) == 1
    assert "no result for any of 1 sequences" in capsys.readouterr().err


def test_training_says_how_much_of_a_benchmark_it_has_and_what_it_passes_over(tmp_path: Path) -> None:
    rgb = np.zeros((60, 80, 3), np.uint8)
    for part, name in (("trainingset", "made_1"), ("testingset", official_test_names()[0])):
        for side in ("visible", "infrared"):
            write_image(tmp_path / part / name / side / "0.png", rgb)
        for file in ("visible", "init"):
            write_boxes(tmp_path / part / name / f"{file}.txt", [[10, 20, 8, 6]])
    (tmp_path / "__MACOSX" / "trainingset" / "made_2" / "visible").mkdir(parents=True)
    data_issues = DataIssues()
    sequences = training_sequences(f"lasher:{tmp_path}", count=0, seed=0, data_issues=data_issues)
    assert [sequence.name for sequence in sequences] == ["made_1"]
    line = "lasher, train split: 1 of 979 sequences; 1 outside the split are not used"
    assert data_issues.lines()[:3] == [line, f"{IGNORED}: 1", "  __MACOSX"]


def test_the_pixel_limit_is_an_option(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "9999999")  # put back after the test
    command = ["--root", rgbt234, "--weights", weights, "--out", tmp_path / "out"]
    assert run(*command, "--max-pixels", 10) == 1
    assert "more than the limit of 10; --max-pixels" in capsys.readouterr().err
