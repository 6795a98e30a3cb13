"""``mmdistill track`` with a network."""

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, run

from mmdistill.reference.models.config import teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import read_tensors, write_tensors
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.image_files import list_images


def tracking(weights: Path, clip: Path, out: Path, init: str | None = None) -> list[object]:
    box = ",".join(f"{value:.1f}" for value in read_boxes(clip / "groundtruth.txt")[0]) if init is None else init
    return ["track", "--weights", weights, "--rgb", clip / "rgb", "--tir", clip / "tir", f"--init={box}", "--out", out]


@pytest.mark.parametrize("sides", [("rgb", "tir"), ("rgb",), ("tir",)])
def test_track_writes_boxes_scores_and_video(weights: Path, clip: Path, tmp_path: Path, sides: tuple[str, ...]) -> None:
    arguments = tracking(weights, clip, tmp_path / "out")
    for side in {"rgb", "tir"} - set(sides):
        index = arguments.index(f"--{side}")
        del arguments[index : index + 2]
    assert run(*arguments, "--video", "gif") == 0
    boxes = read_boxes(tmp_path / "out" / "boxes.txt")
    assert boxes.shape == (4, 4)
    assert np.isfinite(boxes).all()
    assert len((tmp_path / "out" / "scores.txt").read_text().split()) == 4
    assert (tmp_path / "out" / "track.gif").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tracked"] == 4


@pytest.mark.parametrize(
    ("init", "says"),
    [
        ("10,10,0,20", "the initial box 10,10,0,20 has no area"),
        ("10,10,20,-3", "has no area"),
        ("500,10,20,20", "lies outside the image of 160 x 120 pixels"),
        ("1,2,3", "--init: expected four numbers x,y,w,h"),
        ("a,b,c,d", "--init: expected four numbers x,y,w,h"),
        ("nan,2,3,4", "four finite numbers"),
    ],
)
def test_a_bad_initial_box(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], init: str, says: str
) -> None:
    assert says in fails(capsys, *tracking(weights, clip, tmp_path / "out", init))
    assert not (tmp_path / "out").exists()


def test_unequal_frame_counts(weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    list_images(clip / "tir")[-1].unlink()
    line = fails(capsys, *tracking(weights, clip, tmp_path / "out"))
    assert f"got 4 in {clip / 'rgb'} and 3 in {clip / 'tir'}" in line


def test_a_truncated_image_keeps_what_was_tracked(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = list_images(clip / "tir")[2]
    broken.write_bytes(broken.read_bytes()[:-200])
    line = fails(capsys, *tracking(weights, clip, tmp_path / "out"))
    assert f"{broken}: the image is cut off" in line
    assert len(read_boxes(tmp_path / "out" / "boxes.txt")) == 2
    assert (tmp_path / "out" / "track.mp4").exists()


def test_a_missing_modality_folder(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = tracking(weights, clip, tmp_path / "out")
    (clip / "tir").rename(clip / "elsewhere")
    assert f"{clip / 'tir'}: expected a folder of images or a video file" in fails(capsys, *arguments)
    scored = ["--weights", weights, "--out", tmp_path / "scored"]
    line = fails(capsys, "evaluate", "--benchmark", "vot", "--root", clip.parent, *scored)
    assert f"{clip / 'rgb'}: its TIR partner is missing" in line


def test_a_truncated_checkpoint(weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:-10])
    assert f"{cut}: not a whole safetensors file" in fails(capsys, *tracking(cut, clip, tmp_path / "out"))


def test_a_checkpoint_of_another_architecture(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.safetensors"
    state = TrackerNetwork(teacher_settings(depth=18, width=4, crop_size=96)).state_dict()
    write_tensors(other, state, read_tensors(weights)[1])
    line = fails(capsys, *tracking(other, clip, tmp_path / "out"))
    assert f"{other}: weights of another architecture: missing fusions.0" in line


def test_a_device_that_is_not_there(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for device in ("toaster", "cuda:77"):
        line = fails(capsys, *tracking(weights, clip, tmp_path / "out"), "--device", device)
        assert f"--device: expected auto, cpu or a GPU that is there, got '{device}'" in line
