"""The command line as a user meets it: results on disk, exit status, and one clear line for bad data."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdistill import __version__
from mmdistill.cli.adapt_tir import train_tir
from mmdistill.cli.main import COMMANDS, main, option_names
from mmdistill.reference.models.config import student_settings, teacher_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import read_tensors, save_network, write_tensors
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.datasets import folder_sequence as folders
from mmdistill.toolkit.datasets.folder_sequence import write_sequence
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.images import write_image

VIDEO = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, TrackerNetwork(student_settings(width=4, crop_size=96)))
    return path


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for sequence in synthetic_sequences(2, seed=0, settings=VIDEO):
        write_sequence(sequence, tmp_path / "clips" / sequence.name)
    return tmp_path / "clips"


@pytest.fixture
def clip(clips: Path) -> Path:
    return clips / "synthetic_0000"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def fails(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """Run, expect status 1 and one line on standard error, and return it."""
    assert run(*arguments) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("mmdistill: ")
    return lines[0]


def tracking(weights: Path, clip: Path, out: Path, init: str | None = None) -> list[object]:
    box = ",".join(f"{value:.1f}" for value in read_boxes(clip / "groundtruth.txt")[0]) if init is None else init
    return ["track", "--weights", weights, "--rgb", clip / "rgb", "--tir", clip / "tir", f"--init={box}", "--out", out]


@pytest.mark.parametrize("sides", [("rgb", "tir"), ("rgb",), ("tir",)])
def test_track_writes_boxes_scores_and_video(weights: Path, clip: Path, tmp_path: Path, sides: tuple[str, ...]) -> None:
    arguments = tracking(weights, clip, tmp_path / "out")
    for side in {"rgb", "tir"} - set(sides):
        place = arguments.index(f"--{side}")
        del arguments[place : place + 2]
    assert run(*arguments, "--video", "gif") == 0
    boxes = read_boxes(tmp_path / "out" / "boxes.txt")
    assert boxes.shape == (4, 4)
    assert np.isfinite(boxes).all()
    assert len((tmp_path / "out" / "scores.txt").read_text().split()) == 4
    assert (tmp_path / "out" / "track.gif").stat().st_size > 1000
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["tracked"] == 4


def test_evaluate_scores_raw_results(clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for sequence in clips.iterdir():
        write_boxes(tmp_path / "results" / f"{sequence.name}.txt", read_boxes(sequence / "groundtruth.txt"))
    scores = tmp_path / "scores.json"
    assert (
        run(
            "evaluate",
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


def test_evaluate_needs_no_images_to_score_results(tmp_path: Path) -> None:
    boxes = np.array([[10.0, 10.0, 20.0, 20.0]] * 3)
    write_boxes(tmp_path / "truth" / "car.txt", boxes)
    write_boxes(tmp_path / "truth" / "man" / "groundtruth_rect.txt", boxes)
    write_boxes(tmp_path / "results" / "car.txt", boxes + np.array([100, 0, 0, 0]))
    write_boxes(tmp_path / "results" / "Some_man.txt", boxes)
    score = ["--annotations", tmp_path / "truth", "--results", tmp_path / "results", "--json", tmp_path / "scores.json"]
    assert run("evaluate", "--benchmark", "vot", *score) == 0
    sequences = json.loads((tmp_path / "scores.json").read_text())["sequences"]
    # The first frame counts as ground truth: a third of the frames of a tracker that is lost at once.
    assert {name: round(figures["PR"]) for name, figures in sequences.items()} == {"car": 33, "man": 100}


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


def test_train_teacher_then_student_then_track(clips: Path, tmp_path: Path) -> None:
    small = ["--data", clips, "--width", "4", "--training.steps", "2", "--training.sequences", "2"]
    teacher = tmp_path / "teacher"
    assert run("train", "teacher", *small, "--depth", "18", "--crop-size", "96", "--out", teacher) == 0
    student = tmp_path / "student"
    taught = ["--teacher", teacher / "network.safetensors", "--out", student]
    assert run("train", "student", *small, *taught) == 0
    terms = json.loads((student / "log.jsonl").read_text().splitlines()[-1])
    assert {"box", "last", "first", "middle", "specific", "common", "fusion", "penalty", "response"} < set(terms)
    assert (
        run(*tracking(student / "network.safetensors", clips / "synthetic_0000", tmp_path / "out"), "--video", "none")
        == 0
    )


def test_compose_writes_sequences_that_evaluate_reads(weights: Path, tmp_path: Path) -> None:
    assert run("compose", "--count", 1, "--length", 3, "--out", tmp_path / "made") == 0
    out = tmp_path / "scored"
    assert run("evaluate", "--benchmark", "vot", "--root", tmp_path / "made", "--weights", weights, "--out", out) == 0


def test_a_folder_with_a_terminal_escape_is_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compose", "--count", 1, "--length", 1, "--out", tmp_path / "\x1b[31mred", "--quiet") == 0
    assert capsys.readouterr() == (f"{tmp_path}/\\x1b[31mred\n", "")


def test_compose_goes_on_where_it_was_interrupted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["compose", "--count", 2, "--length", 3, "--out"]
    assert run(*options, whole) == 0

    written = []

    def stop_in_the_second(path: Path, image: object) -> None:
        written.append(path)
        if len(written) == 10:
            raise KeyboardInterrupt
        write_image(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_image", stop_in_the_second)
        assert run(*options, out) == 130
    assert sorted(path.name for path in out.iterdir()) == ["compose.json", "synthetic_0000"]
    first = out / "synthetic_0000" / "groundtruth.txt"
    before = first.stat().st_mtime_ns
    for _ in range(2):
        assert run(*options, out) == 0
    assert first.stat().st_mtime_ns == before, "what is there is kept"
    for path in whole.rglob("*.jpg"):
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert "composed with other options" in fails(capsys, *options, out, "--seed", 7)


def test_output_that_is_no_longer_read_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m mmdistill compose --count 1 --length 1 --quiet --out {tmp_path / 'out'}"
    done = subprocess.run(
        ["bash", "-c", f"{command} | (exec <&-; cat < /dev/null); echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_every_subcommand_teaches_by_example(capsys: pytest.CaptureFixture[str]) -> None:
    for name in COMMANDS:
        with pytest.raises(SystemExit) as status:
            main([name, "--help"])
        assert status.value.code == 0
        assert f"mmdistill {name}" in capsys.readouterr().out.split("options")[0]


@pytest.mark.parametrize("arguments", [["fly"], ["track"], ["train", "cook"], ["evaluate", "--benchmark", "chess"]])
def test_wrong_arguments_are_status_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["trak", "--rgb", "x"], "track"),
        (["--vesion"], "--version"),
        (["track", "--weigths", "x", "--out", "y"], "--weights"),
        (["track", "--weights", "x", "--out", "y", "--rbg=x"], "--rgb"),
        (["train", "teacher", "--trainig.steps", "3", "--out", "y"], "--training.steps"),
        (["train", "tir", "--pairs", "x", "--seting", "D3", "--out", "y"], "--setting"),
    ],
)
def test_a_mistyped_name_is_told_the_nearest(
    arguments: list[str], nearest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        main(arguments)
    assert status.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"did you mean {nearest}?")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["track", "--fps=\x1b[31mred"], r"--fps: could not convert string to float: '\x1b[31mred'"),
        (["track", f"--fps={'x' * 100_000}"], "Error parsing --fps"),
        (["track", "--we\x1b[31mights=a"], r"no option --we\x1b[31mights; did you mean --weights?"),
        (["tra\x1b[31mck"], r"there is no tra\x1b[31mck; did you mean track?"),
    ],
)
def test_what_is_quoted_of_wrong_arguments_is_safe_to_print(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as status:
        main([*arguments, "--weights", "a", "--out", "b"] if "=" in arguments[-1] else arguments)
    assert status.value.code == 2
    errors = capsys.readouterr().err
    assert says in errors
    assert "\x1b" not in errors
    assert max(map(len, errors.splitlines())) <= 320


@pytest.mark.parametrize("name", [*COMMANDS, "train tir"])
def test_the_names_of_options_are_those_of_the_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*name.split(), "--help"])
    options = capsys.readouterr().out.partition(" options ")[2]  # below the description, which names some too
    shown = set(re.findall(r"^[│ ]*(?:-h, )?--([a-z][a-z0-9.-]*[a-z0-9])\b", options, re.MULTILINE))
    command = train_tir if name == "train tir" else COMMANDS[name]
    assert {"help", "out"} <= shown
    assert shown - {"help"} <= set(option_names(command))


def test_help_is_no_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], ["track", "--help"]):
        with pytest.raises(SystemExit) as status:
            main(arguments)
        assert status.value.code == 0
        assert capsys.readouterr().err == ""
    with pytest.raises(SystemExit) as status:
        main(["trakc", "--help"])
    assert status.value.code == 2
    assert capsys.readouterr().err.endswith("did you mean track?\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"mmdistill {__version__}\n"


def test_module_and_status_of_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mmdistill", "track", "--weights", str(tmp_path / "none"), "--init", "1,2,3,4"]
    done = subprocess.run(
        [*command, "--rgb", str(tmp_path), "--out", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1


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
    assert f"{cut}: not a complete safetensors file" in fails(capsys, *tracking(cut, clip, tmp_path / "out"))


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
        assert f"--device: expected auto, cpu or an available GPU, got '{device}'" in line


def test_train_refuses_what_it_cannot_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = ["train", "teacher", "--out", tmp_path / "run"]
    assert "there is no such folder" in fails(capsys, *start, "--data", tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: expected images" in fails(capsys, *start, "--data", tmp_path / "empty")
