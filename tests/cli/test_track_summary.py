"""``mmdistill track`` on many kinds of input, with a tracker that needs no network."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import cv2
import numpy as np
import pytest
from numpy.typing import ArrayLike

from mmdistill.cli import initial_box as box_module
from mmdistill.cli.main import main
from mmdistill.reference.models.config import student_settings
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.drawing import ResponseMap
from mmdistill.toolkit.images import MAX_PIXELS_VARIABLE, write_image
from mmdistill.toolkit.sequence import FramePair
from mmdistill.toolkit.tracking_loop import Result
from mmdistill.toolkit.video import VideoFile

FRAMES = 60


class FakeTracker:
    """Moves the box by a pixel a frame, and can be interrupted like any process."""

    signals: ClassVar[dict[int, int]] = {}
    lost: ClassVar[tuple[int, ...]] = ()

    def __init__(self, *_: object, **__: object) -> None:
        self.frames = 1
        self.box = np.zeros(4)

    @property
    def response(self) -> ResponseMap:
        return ResponseMap(np.eye(19, dtype=np.float32), np.array([0.0, 0, 60, 60]))

    def init(self, _: FramePair, box: ArrayLike) -> None:
        self.box = np.asarray(box)

    def update(self, _: FramePair) -> Result:
        self.frames += 1
        if self.frames in self.signals:
            os.kill(os.getpid(), self.signals[self.frames])
        self.box = self.box + np.array([1, 0, 0, 0])
        return Result(self.box, 0.5, "not_found" if self.frames in self.lost else "normal")


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    network = SimpleNamespace(settings=student_settings(width=4))
    network.to = lambda _: network
    monkeypatch.setattr("mmdistill.reference.models.weights.load_network", lambda _: network)
    monkeypatch.setattr("mmdistill.reference.tracking.tracker.Tracker", FakeTracker)
    monkeypatch.setattr(FakeTracker, "signals", {})
    monkeypatch.setattr(FakeTracker, "lost", ())


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for side, size in (("rgb", (64, 48)), ("tir", (32, 24))):
        for number in range(1, FRAMES + 1):
            picture = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
            write_image(folder / side / f"{number:04d}.png", picture)
    return folder


@pytest.fixture
def clip(recorded: Path, tmp_path: Path) -> Path:
    """A clip of one's own to spoil."""
    for side in ("rgb", "tir"):
        (tmp_path / "clip" / side).mkdir(parents=True)
        for path in (recorded / side).iterdir():
            os.link(path, tmp_path / "clip" / side / path.name)
    return tmp_path / "clip"


def spoil(path: Path) -> None:
    path.unlink()
    path.write_bytes(b"no image")


def run(clip: Path, *options: object, init: str | None = "5,6,20,10", video: str = "none") -> int:
    box = [] if init is None else ["--init", init]
    sources = ["--rgb", clip / "rgb", "--tir", clip / "tir", *box, "--video", video]
    return main([str(each) for each in ("track", "--weights", "w", "--out", clip.parent / "out", *sources, *options)])


def rows(clip: Path) -> list[dict[str, str]]:
    with (clip.parent / "out" / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def boxes(clip: Path) -> np.ndarray:
    return read_boxes(clip.parent / "out" / "boxes.txt")


def summary(clip: Path) -> dict[str, object]:
    return dict(json.loads((clip.parent / "out" / "summary.json").read_text()))


def test_every_frame_has_a_line_in_every_file(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert run(clip) == 0
    assert len(boxes(clip)) == len(rows(clip)) == FRAMES
    assert len((clip.parent / "out" / "scores.txt").read_text().splitlines()) == FRAMES
    np.testing.assert_array_equal(boxes(clip)[-1], [5 + FRAMES - 1, 6, 20, 10])
    written = summary(clip)
    assert (written["ended"], written["frames"], written["tracked"]) == ("complete", FRAMES, FRAMES)
    assert written["tir"] == {"size": [32, 24], "seen": FRAMES, "missing": 0, "black": 0, "broken": 0, "uncovered": 0}
    assert set(written["frames_per_second"]) == {"overall", "tracking"}  # type: ignore[call-overload]
    assert written["tracking"]["learning"]["memory"] == 50  # type: ignore[index]
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == [
        "TIR of 32 x 24 is resized to RGB's 64 x 48"
    ]


@pytest.mark.parametrize(("number", "video"), [(signal.SIGINT, "mp4"), (signal.SIGTERM, "webm")])
def test_an_interruption_leaves_whole_files(
    clip: Path, number: int, video: str, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeTracker.signals[20] = number
    before = signal.getsignal(number)
    assert run(clip, video=video) == 128 + number
    printed = capsys.readouterr()
    assert printed.err.strip().splitlines()[-1] == "mmdistill: interrupted"
    assert ": lost in 0 of 20 frames, " in printed.out
    assert len(boxes(clip)) == len(rows(clip)) == 20, "the frame under way was finished"
    assert summary(clip)["ended"] == "interrupted"
    out = clip.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        *("boxes.txt", "frames.csv", "scores.txt", "summary.json", f"track.{video}")
    ]
    assert len(VideoFile(out / f"track.{video}")) == 20
    assert signal.getsignal(number) is before


def test_an_unreadable_frame_stops_by_name(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spoil(clip / "tir" / "0057.png")
    assert run(clip) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == f"mmdistill: {clip / 'tir/0057.png'}: expected an image, cannot decode the file"
    assert len(boxes(clip)) == 56
    assert summary(clip)["ended"] == line.removeprefix("mmdistill: ")


def test_an_unreadable_image_is_skipped_by_choice_and_named(
    clip: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    for side, name in (("tir", "0057.png"), ("tir", "0058.png"), ("rgb", "0058.png")):
        spoil(clip / side / name)
    assert run(clip, "--on-broken", "skip", video="mp4") == 0
    assert f"lost in 0 of {FRAMES} frames, 1 without an image" in capsys.readouterr().out
    found = rows(clip)
    assert len(boxes(clip)) == FRAMES
    assert [found[56][name] for name in ("rgb", "tir", "flag")] == ["seen", "broken", "normal"]
    assert [found[57][name] for name in ("rgb", "tir", "flag")] == ["broken", "broken", "skipped"]
    assert found[56]["note"] == f"{clip / 'tir/0057.png'}: expected an image, cannot decode the file"
    assert f"frame 57: {clip / 'tir/0057.png'}: expected an image" in caplog.text
    np.testing.assert_array_equal(boxes(clip)[57], boxes(clip)[56])
    assert boxes(clip)[58, 0] == boxes(clip)[56, 0] + 1
    assert (summary(clip)["tracked"], summary(clip)["skipped"]) == (FRAMES - 1, 1)
    film = cv2.VideoCapture(str(clip.parent / "out" / "track.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES


def test_lost_and_black_images_are_noted(clip: Path, caplog: pytest.LogCaptureFixture) -> None:
    (clip / "tir" / "0057.png").unlink()
    (clip / "rgb" / "0012.png").unlink()
    write_image(clip / "rgb" / "0012.png", np.zeros((48, 64, 3), np.uint8))
    assert run(clip, video="mp4") == 0
    found = rows(clip)
    assert (found[56]["tir"], found[11]["rgb"]) == ("missing", "black")
    assert [row["flag"] for row in found if row["flag"] != "normal"] == ["initial"]
    assert summary(clip)["tir"]["missing"] == 1  # type: ignore[index]
    assert summary(clip)["rgb"]["black"] == 1  # type: ignore[index]
    assert "1 lost (number 57)" in caplog.text


def test_the_shorter_length_by_choice(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (clip / "tir" / f"{FRAMES:04d}.png").unlink()
    assert run(clip) == 1
    assert f"got 60 in {clip / 'rgb'} and 59 in {clip / 'tir'}" in capsys.readouterr().err
    assert run(clip, "--length-mismatch", "shorter") == 0
    assert len(boxes(clip)) == 59


def test_the_box_is_drawn_where_it_is_not_given(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box_module, "select_with_mouse", lambda _: np.array([64 + 5, 6, 20, 10.0]))
    assert run(clip, init=None) == 0
    np.testing.assert_array_equal(boxes(clip)[0], [5, 6, 20, 10])


def test_no_box_and_no_screen(clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def none(*_: str) -> None:
        raise DataError("--init: no window can be opened")

    monkeypatch.setattr(box_module, "open_window", none)
    assert run(clip, init=None) == 1
    assert "--init: no window can be opened" in capsys.readouterr().err
    assert not (clip.parent / "out").exists()


@pytest.mark.parametrize(("lost", "hint"), [((), False), ((30, 31), False), (tuple(range(2, 60)), True)])
def test_how_often_the_target_was_lost(
    clip: Path, lost: tuple[int, ...], hint: bool, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    FakeTracker.lost = lost
    assert run(clip) == 0
    line = capsys.readouterr().out.strip().splitlines()[-1]
    first = f", first at {lost[0]}" if lost else ""
    assert f": lost in {len(lost)} of {FRAMES} frames{first}, " in line
    assert summary(clip)["lost"] == {"frames": len(lost), "first": lost[0] if lost else None}
    assert ("--init" in caplog.text) is hint
    assert ("--init" in str(summary(clip)["hint"])) is hint


def test_a_first_frame_that_cannot_be_read(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for side in ("rgb", "tir"):
        spoil(clip / side / "0001.png")
    assert run(clip, "--on-broken", "skip") == 1
    assert "frame 1: expected an image that shows the target" in capsys.readouterr().err


def test_a_16_bit_video_of_tir_alone(tmp_path: Path) -> None:
    (tmp_path / "tir").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(7000, 7500, (48, 64)).astype(np.uint16)
        cv2.imwrite(str(tmp_path / "tir" / f"{number}.tiff"), pixels)
    arguments = ["track", "--weights", "w", "--tir", str(tmp_path / "tir"), "--init", "5,6,20,10"]
    assert main([*arguments, "--out", str(tmp_path / "out"), "--no-response"]) == 0
    found = rows(tmp_path / "clip")
    assert {(row["rgb"], row["tir"]) for row in found} == {("absent", "seen")}
    film = cv2.VideoCapture(str(tmp_path / "out" / "track.mp4"))
    assert film.get(cv2.CAP_PROP_FRAME_WIDTH) == 360, "one panel"


def test_cameras_are_tracked_until_they_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class FakeCapture:
        def __init__(self, number: int) -> None:
            self.left = 8 + number

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def get(self, _: int) -> float:
            return 0.0

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            time.sleep(0.02)
            picture = np.random.default_rng(self.left % 7).integers(0, 256, (48, 64, 3)).astype(np.uint8)
            return self.left >= 0, picture if self.left >= 0 else None

        def release(self) -> None:
            pass

    monkeypatch.setattr(cv2, "VideoCapture", FakeCapture)
    arguments = ["track", "--weights", "w", "--rgb", "0", "--tir", "1", "--init", "5,6,20,10", "--video", "none"]
    assert main([*arguments, "--on-broken", "skip", "--out", str(tmp_path / "out")]) == 0
    assert summary(tmp_path / "clip")["frames"] is None
    assert 3 <= len(boxes(tmp_path / "clip")) <= 10


def test_a_cut_video_is_in_the_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for number in range(30):
        writer.write(np.random.default_rng(number).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    arguments = ["track", "--weights", "w", "--rgb", str(path), "--init", "5,6,20,10", "--video", "none"]
    for options, status in (([], 1), (["--on-broken", "skip"], 0)):
        assert main([*arguments, "--out", str(tmp_path / "out"), *options]) == status
        written = summary(tmp_path / "clip")
        count = len(boxes(tmp_path / "clip"))
        assert 5 < count < 25
        assert written["ended"] == f"{path}: states 30 frames, {count} can be decoded"
        assert written["input_warnings"] == [written["ended"]]
        assert written["frames"] == (count if status == 0 else 30)
    assert "30 frames" in capsys.readouterr().err


def test_input_warnings_are_in_the_summary(tmp_path: Path) -> None:
    for side, size in (("rgb", (64, 36)), ("tir", (32, 24))):
        for stem in ("7.05", "7.1", "7.15"):
            picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
            write_image(tmp_path / "clip" / side / f"{stem}.png", picture)
    assert run(tmp_path / "clip", "--pair-by", "time") == 0
    warnings = "\n".join(summary(tmp_path / "clip")["input_warnings"])  # type: ignore[arg-type]
    assert "3 of 3 RGB frames have a TIR frame" in warnings
    assert "32 x 24 (4:3)" in warnings
    assert "64 x 36 (16:9)" in warnings
    assert summary(tmp_path / "clip")["ended"] == "complete"


def test_the_shorter_of_two_is_not_complete(clip: Path) -> None:
    (clip / "tir" / f"{FRAMES:04d}.png").unlink()
    assert run(clip, "--length-mismatch", "shorter") == 0
    assert "the first 59 are used" in str(summary(clip)["ended"])


def test_names_that_are_no_utf8_or_hold_terminal_escapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "clip" / "rgb"
    write_image(folder / "1.png", np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8))
    for name in (b"2\xff.png", b"3\x1b[31m.png"):
        (folder / os.fsdecode(name)).write_bytes(b"no image")
    arguments = ["track", "--weights", "w", "--rgb", str(folder), "--init", "5,6,20,10", "--video", "none"]
    assert main([*arguments, "--on-broken", "skip", "--out", str(tmp_path / "out")]) == 0
    assert [row["rgb"] for row in rows(tmp_path / "clip")] == ["seen", "broken", "broken"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "2\\xff.png" in error.splitlines()[-1]
    assert "\x1b" not in error
    assert len(boxes(tmp_path / "clip")) == 1


def test_the_pixel_limit_is_an_option(
    clip: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "9999")  # put back after the test
    assert run(clip, "--max-pixels", 64 * 48 - 1) == 1
    assert "64 x 48 = 3,072 pixels" in capsys.readouterr().err
    assert run(clip, "--max-pixels", 64 * 48) == 0
    assert run(clip, "--max-pixels", 0) == 2
    assert "--max-pixels: expected a whole number from 1 to 1,000,000,000,000,000, got 0" in capsys.readouterr().err
