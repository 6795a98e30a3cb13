"""``mmdistill adapt-tir``: a TIR tracker without labels."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from mmdistill.cli.main import main
from mmdistill.reference.models.config import Classifier, single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.datasets.folder_sequence import write_sequence
from mmdistill.toolkit.images import write_image

VIDEO = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(5):
        for side in ("rgb", "tir"):
            coarse = generator.integers(0, 256, (12, 16, 3), dtype=np.uint8)
            write_image(tmp_path / "pairs" / side / f"{number}.png", np.asarray(cv2.resize(coarse, (160, 120))))
    return tmp_path / "pairs"


def tracker(folder: Path, classifier: Classifier = "dimp") -> Path:
    torch.manual_seed(0)
    path = folder / f"{classifier}.safetensors"
    save_network(path, TrackerNetwork(single_settings("rgb", width=8, crop_size=128, classifier=classifier)))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return tracker(tmp_path)


def run(setting: str, pairs: Path, start: Path, out: Path, *more: object) -> int:
    short = ["--schedule", "short", "--steps", "2", "--device", "cpu"]
    where = ["--pairs", pairs, "--weights", start, "--out", out]
    return main([str(word) for word in ["adapt-tir", "--setting", setting, *where, *short, *more]])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> str:
    """Run, expect an exit status and one line on standard error, and return it."""
    capsys.readouterr()
    assert run(*arguments) == status  # type: ignore[arg-type]
    (line,) = capsys.readouterr().err.strip().splitlines()
    return line


def test_d3_end_to_end(pairs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(pairs / "rgb" / "alone.png", np.zeros((120, 160, 3), np.uint8))
    broken = pairs / "tir" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-100])
    for sequence in synthetic_sequences(2, seed=0, settings=VIDEO):
        write_sequence(sequence, tmp_path / "clips" / sequence.name)
    out = tmp_path / "run"
    assert run("D3", pairs, start, out, "--num-test-pairs", 1, "--evaluate", tmp_path / "clips") == 0
    printed = capsys.readouterr().out
    assert "center: 3 pairs used, 3 patches; 2 pairs skipped" in printed
    assert "alone.png: has no partner of the same name" in printed
    assert f"{broken}: the image is cut off" in printed
    assert printed.splitlines()[-1] == str(out / "network.safetensors")
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"B1", "B2", "B3", "C1", "D3"}
    result = load_network(out / "network.safetensors")
    assert result.settings.modality == "tir"
    joint = load_network(out / "D3" / "network.safetensors").state_dict()
    torch.testing.assert_close(result.state_dict(), joint, rtol=0, atol=0)
    steps = [json.loads(line) for line in (out / "D3" / "log.jsonl").read_text().splitlines()]
    assert {"classification", "tcl.regularisation", "box", "bbe.regularisation"} < set(steps[-1])
    scores = json.loads((out / "evaluation.json").read_text())
    assert set(scores) == {"start", "D3"}
    assert set(scores["D3"]["overall"]) == {"PR", "NPR", "SR"}
    assert len(scores["start"]["sequences"]) == 2
    assert "tracker" in printed
    # Again: all is there. Another setting: what it starts from is.
    assert run("D3", pairs, start, out, "--num-test-pairs", 1) == 0
    logged = (out / "B1" / "log.jsonl").read_text()
    assert run("B3", pairs, start, out, "--num-test-pairs", 1) == 0
    assert (out / "B1" / "log.jsonl").read_text() == logged
    assert "center: 3 pairs used" in capsys.readouterr().out


@pytest.mark.parametrize("setting", ["A1", "B3"])
def test_settings_without_training_of_their_own(setting: str, pairs: Path, start: Path, tmp_path: Path) -> None:
    assert run(setting, pairs, start, tmp_path / "run") == 0
    result, before = load_network(tmp_path / "run" / "network.safetensors"), load_network(start)
    same = all(torch.equal(value, before.state_dict()[name]) for name, value in result.state_dict().items())
    assert same == (setting == "A1")
    assert result.settings.modality == "tir"


def test_d5_with_boxes_from_files_and_with_what_stands_out(
    pairs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = tmp_path / "boxes"
    boxes.mkdir()
    for number, lines in enumerate(["40 30 30 30\n90 40 30 40 0.9 car\n", "40 30 30 30 0.1\n", "", "1 2 3\n"]):
        (boxes / f"{number}.txt").write_text(lines)
    assert run("D5", pairs, start, tmp_path / "files", "--boxes", boxes) == 0
    printed = capsys.readouterr().out
    assert "center: 5 pairs used, 5 patches; 0 pairs skipped" in printed
    assert "detection: 1 pairs used, 2 patches; 4 pairs skipped" in printed
    for reason in ("1.png: no patch", "2.png: no patch", "3.txt, line 1: expected x y w h", "4.txt: cannot read"):
        assert reason in printed
    assert run("D5", pairs, start, tmp_path / "saliency") == 0
    assert "detection: 5 pairs used" in capsys.readouterr().out
    line = fails(capsys, "D4", pairs, start, tmp_path / "other", "--boxes", boxes, status=2)
    assert "--boxes: is for settings with a detector (D5), not for D4" in line


def test_an_atom_learns_box_estimation(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atom = tracker(tmp_path, "atom")
    out = tmp_path / "run"
    assert run("D3", pairs, atom, out, "--precision", "bfloat16", "--loss.layout", "side-by-side") == 0
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"B1", "B2", "B3", "D3"}
    assert load_network(out / "network.safetensors").settings.classifier == "atom"
    assert "setting C1: tunes the classifier alone" in fails(capsys, "C1", pairs, atom, tmp_path / "c1")


def test_an_unknown_setting_lists_all_ten(
    pairs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, "D6", pairs, start, tmp_path / "run", status=2)
    assert line.startswith("mmdistill: --setting: expected one of A1, B1, B2, B3, C1, D1, D2, D3, D4, D5")
    assert line.endswith("got 'D6'")


def test_missing_options_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for given, missing in ((["--setting", "D3"], ["--weights", "--out"]), ([], ["--setting", "--weights"])):
        assert main(["adapt-tir", *given]) == 2
        printed = capsys.readouterr().err
        assert all(option in printed for option in missing)
    (tmp_path / "empty").mkdir()
    assert "empty: expected images" in fails(capsys, "D3", tmp_path / "empty", tracker(tmp_path), tmp_path)


def test_the_folder_of_one_modality_is_refused(
    pairs: Path, start: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, "D3", pairs / "rgb", start, tmp_path / "run")
    assert line.endswith(f"{pairs / 'rgb'}: is RGB alone, as 'rgb' says, beside 'tir'; give {pairs}")
    (pairs / "rgb").rename(tmp_path / "frames")
    line = fails(capsys, "D3", tmp_path / "frames", start, tmp_path / "run")
    assert "the right half of 0.png has color" in line
    where = ["--rgb", tmp_path / "frames", "--tir", pairs / "tir", "--weights", start, "--out", tmp_path / "run"]
    assert main([str(word) for word in ["adapt-tir", "--setting", "A1", *where, "--device", "cpu"]]) == 0
