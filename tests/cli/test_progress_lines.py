"""Every long command prints lines of progress to standard error where that is no terminal."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import run
from pair_folders import write_pairs

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit import progress
from mmdistill.toolkit.box_files import read_boxes


def track(weights: Path, clips: Path, out: Path) -> list[object]:
    clip = clips / "synthetic_0000"
    box = ",".join(f"{value:.1f}" for value in read_boxes(clip / "groundtruth.txt")[0])
    return ["track", "--weights", weights, "--rgb", clip / "rgb", f"--init={box}", "--video", "none", "--out", out]


def evaluate(weights: Path, clips: Path, out: Path) -> list[object]:
    return ["evaluate", "--benchmark", "vot", "--root", clips, "--weights", weights, "--out", out]


def compose(_weights: Path, _clips: Path, out: Path) -> list[object]:
    return ["compose", "--count", 2, "--length", 3, "--out", out]


def train(_weights: Path, clips: Path, out: Path) -> list[object]:
    small = ["--width", 4, "--crop-size", 96, "--training.steps", 2, "--training.batch-size", 2, "--device", "cpu"]
    return ["train", "rgb", "--data", clips, *small, "--out", out]


def adapt_tir(_weights: Path, _clips: Path, out: Path) -> list[object]:
    write_pairs(out.parent / "pairs", 3)
    start = out.parent / "rgb.safetensors"
    save_network(start, TrackerNetwork(single_settings("rgb", width=4, crop_size=96)))
    arguments = ["--setting", "B1", "--weights", start, "--steps", 2, "--schedule", "short", "--device", "cpu"]
    return ["adapt-tir", *arguments, "--pairs", out.parent / "pairs", "--out", out]


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (track, {"tracking": ("frame", 4)}),
        (evaluate, {"(tracking|1 of 2 sequences)": ("frame", 8)}),
        (compose, {"composing": ("frame", 6)}),
        (train, {"rgb": ("step", 2)}),
        (adapt_tir, {"patches": ("pair", 3), "B1": ("step", 2)}),
    ],
)
def test_lines_of_progress(
    command: Callable[[Path, Path, Path], list[object]],
    lines: dict[str, tuple[str, int]],
    weights: Path,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    assert run(*command(weights, clips, tmp_path / "out")) == 0
    printed = capsys.readouterr()
    for title, (unit, total) in lines.items():
        line = rf"^{title}: {unit} {total} of {total}, [\d.e+-]+ per second, 00:00 left"
        assert re.search(line, printed.err, re.MULTILINE), printed.err
        assert f" {unit} " not in printed.out
