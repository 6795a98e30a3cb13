"""``mmdistill evaluate``: tracks a benchmark and scores the results."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import NAMES, fails, run

from mmdistill.cli.benchmark_run import claim
from mmdistill.reference.models.config import student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.images import MAX_PIXELS_VARIABLE


def test_evaluate_runs_a_tracker_and_scores_it(
    weights: Path, clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "scored"
    assert run("evaluate", "--benchmark", "vot", "--root", clips, "--weights", weights, "--out", out) == 0
    content = json.loads((out / "scores.json").read_text())
    scored = {"scored", "split", "sequences_scored", "official_count", "sequences_missing"}
    assert set(content) == {"benchmark", "rule", "overall", "sequences", "attributes"} | scored
    assert (content["scored"], content["split"], content["official_count"]) == ("vot: 2 sequences", None, None)
    assert set(content["sequences"]) == {"synthetic_0000", "synthetic_0001"}
    assert (out / "success.png").exists()
    # Results are taken up again, so a folder belongs to one tracker's weights.
    assert run("evaluate", "--benchmark", "vot", "--root", clips, "--weights", weights, "--out", out) == 0
    capsys.readouterr()
    other = tmp_path / "other.safetensors"
    save_network(other, TrackerNetwork(student_settings(width=4, crop_size=96)))
    line = fails(capsys, "evaluate", "--benchmark", "vot", "--root", clips, "--weights", other, "--out", out)
    assert f"{out}: holds the results of other weights" in line
    assert (out / "precision.png").exists()


@pytest.mark.slow
def test_a_tracker_is_run_alone_together_and_in_processes(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = {}
    for name, options in (("one", ["--batch-size", 1]), ("two", []), ("processes", ["--workers", 2])):
        out = tmp_path / name
        assert (
            run(
                "evaluate",
                "--benchmark",
                "rgbt234",
                "--root",
                rgbt234,
                "--weights",
                weights,
                "--out",
                out,
                "--device",
                "cpu",
                *options,
            )
            == 0
        )
        assert "frames per second" in capsys.readouterr().out
        boxes[name] = np.concatenate([read_boxes(out / "results" / f"{each}.txt") for each in NAMES])
        speed = json.loads((out / "speed.json").read_text())
        assert speed["frames"] == 4
        assert ("2 processes" in speed["how"]) == (name == "processes")
    np.testing.assert_allclose(boxes["two"], boxes["one"], atol=0.02)
    np.testing.assert_allclose(boxes["processes"], boxes["one"], atol=0.02)


def test_results_of_other_weights_are_not_reused(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "evaluate",
        "--benchmark",
        "rgbt234",
        "--root",
        rgbt234,
        "--weights",
        weights,
        "--out",
        tmp_path / "out",
        "--device",
        "cpu",
    ]
    mark = tmp_path / "out" / "results" / "weights.sha256"
    mark.parent.mkdir(parents=True)
    for content in ("", "0" * 64 + "  other.safetensors\n"):
        mark.write_text(content)
        assert run(*command) == 1
        printed = (
            f"mmdistill: {tmp_path / 'out'}: holds the results of other weights; give another --out, or remove it\n"
        )
        assert capsys.readouterr().err == printed
        assert list(mark.parent.iterdir()) == [mark]


def test_results_on_other_sequences_of_the_same_names_are_not_reused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def evaluate(seed: int) -> int:
        claim(tmp_path / "out", weights, f"synthetic, seed {seed}")
        rest = ["--weights", weights, "--out", tmp_path / "out", "--device", "cpu"]
        command = ["evaluate", "--benchmark", "synthetic", "--count", 1, "--seed", 2, *rest]
        return run(*command)

    [sequence] = synthetic_sequences(1, seed=2)
    write_boxes(tmp_path / "out" / "results" / "synthetic_0000.txt", sequence.boxes)
    assert evaluate(2) == 0
    assert "1 sequence, 100 frames  100.0" in capsys.readouterr().out
    (tmp_path / "out" / "results" / "sequences.mark").unlink()
    assert evaluate(1) == 1
    assert "holds results on synthetic, seed 1, not on synthetic, seed 2; give another" in capsys.readouterr().err


def test_a_name_that_can_not_be_exported_is_refused_before_anything_is_run(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    command = ["evaluate", "--benchmark", "rgbt234", "--root", rgbt234, "--weights", weights, "--out", tmp_path / "out"]
    assert run(*command, "--export", tmp_path / "exported", "--tracker", "a/b") == 1
    assert "--tracker: expected a valid folder name, got 'a/b'" in capsys.readouterr().err
    assert run(*command, "--export", tmp_path / "file") == 1
    assert f"{tmp_path / 'file'}: expected a folder to export to, got a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rgbt234"], "--root: expected the folder of the sequences"),
        (["rgbt234", "--root", "HERE", "--annotations", "HERE"], "no option --annotations"),
        (["rgbt234", "--root", "HERE", "--results", "HERE"], "no option --results"),
        (["rgbt234", "--root", "HERE", "--split", "train"], "--split: only lasher has splits"),
        (["synthetic", "--root", "HERE"], "--root: synthetic video has no folder; leave it out, got "),
        (["pairs", "--root", "HERE"], "'pairs'"),
    ],
)
def test_wrong_arguments(
    rgbt234: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    words = [rgbt234 if each == "HERE" else each for each in arguments]
    tracked = ["--weights", weights, "--out", tmp_path / "out"]
    assert message in fails(capsys, "evaluate", *tracked, "--benchmark", *words, status=2)
    assert not (tmp_path / "out").exists()


def test_weights_and_out_are_required(rgbt234: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = fails(capsys, "evaluate", "--benchmark", "rgbt234", "--root", rgbt234, status=2)
    assert "--weights" in line
    assert "--out" in line


def test_the_pixel_limit_is_an_option(
    rgbt234: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "9999999")  # put back after the test
    command = ["evaluate", "--benchmark", "rgbt234", "--root", rgbt234, "--weights", weights, "--out", tmp_path / "out"]
    assert run(*command, "--max-pixels", 10) == 1
    assert "more than the limit of 10; --max-pixels" in capsys.readouterr().err
