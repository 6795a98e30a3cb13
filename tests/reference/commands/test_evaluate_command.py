"""``mmdistill evaluate`` on benchmarks as they lie on disk."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdistill.reference.cli import main
from mmdistill.reference.commands.benchmark_run import claim
from mmdistill.reference.data.box_files import read_boxes, write_boxes
from mmdistill.reference.data.images import MAX_PIXELS_VARIABLE, write_image
from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.data.training_source import training_sequences
from mmdistill.reference.networks.settings import student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import save_network

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
    assert "rgbt234: mean of sequences; PR: centre error <= 20 px" in said
    assert "  results named <tracker>_<sequence>.txt: 2" in said
    assert "  rgbt234 has 234 sequences, 2 are used" in said
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["overall"] == {"PR": 100.0, "NPR": 100.0, "SR": 95.2381}
    again = ["--annotations", rgbt234, "--results", results, "--export", tmp_path / "for_toolkit"]
    assert run(*again) == 0
    exported = tmp_path / "for_toolkit" / "Some"
    assert sorted(path.name for path in exported.iterdir()) == [f"Some_{name}.txt" for name in NAMES]
    assert run("--annotations", rgbt234, "--results", exported, "--json", tmp_path / "b.json") == 0
    assert (tmp_path / "b.json").read_text() == (tmp_path / "a.json").read_text()


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
    assert "sequences that can't be used are left out: 1" in said
    assert "  text files in the folder of results that belong to no sequence: 1" in said
    (rgbt234 / "boy`s bag" / "visible.txt").unlink()
    assert run(*command, "--unusable", "skip") == 1
    assert "none of 2 sequences can be used" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--root", "HERE", "--weights", "W", "--out", "O", "--workers", "0"], "--workers: expected at least 1, got 0"),
        (["--root", "HERE", "--weights", "W", "--out", "O", "--together", "0"], "--together: expected at least 1"),
        (["--weights", "W", "--out", "O"], "--root: expected the folder of the sequences"),
        (["--results", "HERE"], "--annotations: expected the folder of the ground truth"),
        (["--check"], "--root: expected the folder of the sequences"),
        (["--annotations", "HERE"], "give either --results"),
        (["--annotations", "HERE", "--root", "HERE", "--weights", "W", "--out", "O"], "--annotations: a run takes"),
        (["--annotations", "HERE/none", "--results", "HERE"], "there is none"),
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
    image = np.zeros((6, 8, 3), np.uint8)
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
        assert "files and folders that make no pair: 1\n" in captured.out
        assert f"pairs that can't be read: {2 - usable}\n" in captured.out
        assert "I0.png: has no partner" in captured.out
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
    assert "synthetic_0000  100.0" in capsys.readouterr().out
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


def test_the_pixel_limit_is_an_option(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "9999999")  # put back after the test
    command = ["--root", rgbt234, "--weights", weights, "--out", tmp_path / "out"]
    assert run(*command, "--max-pixels", 10) == 1
    assert "more than the limit of 10; --max-pixels" in capsys.readouterr().err
