"""``mmdistill train``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import NAMES, fails, run

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, read_tensors, save_network
from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.data_issues import DataIssues
from mmdistill.toolkit.datasets.lasher import official_test_names
from mmdistill.toolkit.image_files import IGNORED
from mmdistill.toolkit.images import write_image


def test_train_teacher_then_student_then_track(clips: Path, tmp_path: Path) -> None:
    small = ["--data", clips, "--width", "4", "--training.steps", "2", "--training.batch-size", "2"]
    teacher = tmp_path / "teacher"
    assert run("train", "teacher", *small, "--depth", "18", "--crop-size", "96", "--out", teacher) == 0
    student = tmp_path / "student"
    taught = ["--teacher", teacher / "network.safetensors", "--out", student]
    limits = ["--training.clip-grad-norm", "10", "--training.clip-scope", "part", "--distillation.warmup-steps", "3"]
    assert run("train", "student", *small, *taught, *limits) == 0
    identity = json.loads(read_tensors(student / "checkpoint.safetensors")[1]["identity"])
    assert (identity["training"]["clip_scope"], identity["distillation"]["warmup_steps"]) == ("part", 3)
    terms = json.loads((student / "log.jsonl").read_text().splitlines()[-1])
    assert {"box", "last", "first", "middle", "specific", "common", "fusion", "penalty", "response"} < set(terms)
    clip = clips / "synthetic_0000"
    box = ",".join(f"{value:.1f}" for value in read_boxes(clip / "groundtruth.txt")[0])
    sources = ["--rgb", clip / "rgb", "--tir", clip / "tir", f"--init={box}", "--video", "none"]
    assert run("track", "--weights", student / "network.safetensors", *sources, "--out", tmp_path / "out") == 0


def test_train_refuses_what_it_cannot_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "teacher", "--out", tmp_path / "run"]
    assert "the folder doesn't exist" in fails(capsys, *start, "--data", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: expected images" in fails(capsys, *start, "--data", tmp_path / "empty")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    save_network(tmp_path / "start.safetensors", TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    return tmp_path / "start.safetensors"


def continuation(start: Path, clips: Path) -> list[object]:
    command = ["train", "rgb", "--data", clips, "--out", start.parent / "run", "--init-from", start, "--width=4"]
    return [*command, "--training.batch-size=2", "--device=cpu"]


def test_training_starts_from_the_given_weights(start: Path, clips: Path) -> None:
    still = ["--training.freeze-trunk", "--training.freeze-bn-after=0"]
    assert run(*continuation(start, clips), "--crop-size=96", "--training.steps=1", *still) == 0
    before, after = (load_network(path).state_dict() for path in (start, start.parent / "run" / "network.safetensors"))
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not {name for name in moved if name.startswith("trunks") or "running" in name}
    # One step of Adam from there, not new random weights.
    assert all((before[name] - after[name]).abs().max() < 0.01 for name in moved)


def test_initial_weights_of_another_architecture_are_refused(
    start: Path, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, *continuation(start, clips), "--crop-size=128", "--training.steps=1")
    assert "--init-from: crop_size of" in line


def test_a_benchmark_is_training_data_by_its_name(rgbt234: Path) -> None:
    sequences = training_sequences(f"rgbt234:{rgbt234}", count=0, seed=0)
    assert [sequence.name for sequence in sequences] == NAMES
    rgb, tir = sequences[1].frame(2)
    assert rgb is not None
    assert tir is not None


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


@pytest.mark.parametrize("options", [[], ["--setting", "D3", "--pairs", "p", "--weights", "w"], ["--out", "o"]])
def test_a_tir_tracker_without_labels_is_adapt_tirs_work(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert "mmdistill adapt-tir" in fails(capsys, "train", "tir", *options, status=2)


def test_a_tir_tracker_is_trained_on_labels(clips: Path, tmp_path: Path) -> None:
    small = ["--width", "4", "--crop-size", "96", "--training.steps", "1", "--training.batch-size", "2"]
    assert run("train", "tir", f"--data={clips}", "--out", tmp_path / "run", *small) == 0
    assert load_network(tmp_path / "run" / "network.safetensors").settings.modality == "tir"


def test_the_help_shows_the_limits_of_gradients(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "--help") == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for option in ("--training.clip-scope {part,all}", "--distillation.warmup-steps INT"):
        assert option in text


@pytest.mark.parametrize("option", ["--teacher=x", "--fusion=mpsd", "--streams=2"])
def test_an_option_of_a_student_is_refused_elsewhere(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = fails(capsys, "train", "rgb", "--data=synthetic", option, "--out", tmp_path / "run", status=2)
    assert f"{option.partition('=')[0]}: is for a student, not for 'rgb'" in line
