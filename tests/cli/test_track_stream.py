"""``mmdistill track`` while it runs: lines on standard output, and a window."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import matplotlib.pyplot as plt
import numpy as np
import pytest
from command_line import run
from matplotlib.backend_bases import CloseEvent, KeyEvent
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import mmdistill
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.datasets.folder_sequence import write_sequence

FRAMES = 60


def track(weights: Path, clip: Path, out: Path, *options: object) -> list[str]:
    box = ",".join(f"{value:.1f}" for value in read_boxes(clip / "groundtruth.txt")[0])
    sources = ["--rgb", clip / "rgb", "--tir", clip / "tir", f"--init={box}"]
    return [str(each) for each in ("track", "--weights", weights, *sources, "--out", out, *options)]


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "frames.csv").open() as file:
        return list(csv.DictReader(file))


def summary(out: Path) -> dict[str, object]:
    return dict(json.loads((out / "summary.json").read_text()))


def test_a_line_for_each_frame_and_nothing_else(
    weights: Path, clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(*track(weights, clip, out, "--stream", "--video", "none")) == 0
    printed = capsys.readouterr()
    frames = [json.loads(line) for line in printed.out.splitlines()]
    assert [each["frame"] for each in frames] == [1, 2, 3, 4]
    np.testing.assert_allclose([each["box"] for each in frames], read_boxes(out / "boxes.txt"), atol=1e-9)
    scores = [float(line) for line in (out / "scores.txt").read_text().split()]
    assert [each["score"] for each in frames] == scores
    assert [each["flag"] for each in frames] == [row["flag"] for row in rows(out)]
    assert {each["time"] for each in frames} == {None}
    assert all(0 < each["seconds"] < 100 for each in frames)
    assert printed.err.splitlines()[-1].startswith(f"{out}: lost in ")


@pytest.mark.slow
def test_a_reader_that_stops_ends_the_run_with_complete_files(weights: Path, tmp_path: Path) -> None:
    video = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=FRAMES)
    write_sequence(synthetic_sequences(1, seed=0, settings=video)[0], tmp_path / "clip")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "mmdistill", *track(weights, tmp_path / "clip", out, "--stream")]
    environment = {**os.environ, "PYTHONPATH": str(Path(mmdistill.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, **pipes) as process:  # type: ignore[call-overload]
        first = json.loads(process.stdout.readline())
        process.stdout.close()
        errors = process.stderr.read()
    assert process.returncode == 141, errors
    assert first["flag"] == "initial"
    count = len(read_boxes(out / "boxes.txt"))
    assert 1 < count < FRAMES
    assert len(rows(out)) == len((out / "scores.txt").read_text().split()) == count
    assert cv2.VideoCapture(str(out / "track.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == count
    reason = f"the reader of --stream closed it after frame {count}"
    assert summary(out)["ended"] == reason
    line = errors.splitlines()[-1]
    assert line.startswith(f"{out}: lost in ")
    assert f" of {count} frames" in line
    assert reason in line
    assert "Traceback" not in errors


def window(action: Callable[[FigureCanvasAgg], None]) -> Callable[..., Figure]:
    """Return a replacement of ``open_window`` without a screen; the user acts as soon as the first frame is shown."""

    class Canvas(FigureCanvasAgg):
        def draw(self) -> None:
            super().draw()
            action(self)

    def open_window(*_: object, **__: object) -> Figure:
        figure = Figure()
        Canvas(figure)
        return figure

    return open_window


def press_q(canvas: FigureCanvasAgg) -> None:
    canvas.callbacks.process("key_press_event", KeyEvent("key_press_event", canvas, "q"))


def close(canvas: FigureCanvasAgg) -> None:
    canvas.callbacks.process("close_event", CloseEvent("close_event", canvas))


@pytest.mark.parametrize("video", ["mp4", "none"])
def test_q_in_the_window_ends_the_run(
    weights: Path,
    clip: Path,
    tmp_path: Path,
    video: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("mmdistill.cli.frame_outputs.open_window", window(press_q))
    out = tmp_path / "out"
    assert run(*track(weights, clip, out, "--show", "--video", video)) == 0
    assert summary(out)["ended"] == "ended in the window after frame 1"
    assert len(rows(out)) == 1
    assert (out / "track.mp4").exists() == (video == "mp4")
    assert capsys.readouterr().out.startswith(f"{out}: lost in 0 of 1 frames; ended in the window after frame 1, ")


def test_a_closed_window_does_not_end_the_run(
    weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdistill.cli.frame_outputs.open_window", window(close))
    assert run(*track(weights, clip, tmp_path / "out", "--show")) == 0
    assert summary(tmp_path / "out")["ended"] == "complete"
    assert len(rows(tmp_path / "out")) == 4


def test_no_screen_for_a_window(
    weights: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(toolkit: str) -> None:
        raise ImportError(f"Cannot load {toolkit}")

    monkeypatch.setattr(plt, "switch_backend", missing)
    assert run(*track(weights, clip, tmp_path / "out", "--show")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mmdistill: --show: no window can be opened, because ")
    assert line.endswith("; leave it out, and see the video in --out")
    assert not (tmp_path / "out").exists()
