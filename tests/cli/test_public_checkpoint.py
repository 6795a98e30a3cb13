"""The page on public checkpoints: its commands run as they stand, on random weights in the published layout."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import checkpoints
import cv2
import numpy as np
import pytest
import torch
from command_line import run
from pair_folders import write_pairs

from mmdistill.reference.models.config import single_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network

PAGE = Path(__file__).resolve().parents[2] / "docs/public_checkpoint.md"
FRAMES = 3


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


def film(path: Path) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (320, 240))
    for number in range(FRAMES):
        coarse = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        writer.write(np.asarray(cv2.resize(coarse, (320, 240)), np.uint8))
    writer.release()


@pytest.mark.slow
def test_the_commands_run_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        network = TrackerNetwork(single_settings("rgb", 50, width=4))
    checkpoints.save_tracker(tmp_path / "dimp50.pth", checkpoints.random_state(checkpoints.published_layout(network)))
    film(tmp_path / "clip.mp4")
    film(tmp_path / "thermal.mp4")
    write_pairs(tmp_path / "PAIRS", 4)

    ran = []
    for program, name, *arguments in commands():
        if program == "pip":
            continue
        assert program == "mmdistill"
        fewer = ["--steps", "1"] if name == "adapt-tir" else []
        assert run(name, *arguments, *fewer) == 0
        ran.append(name)
    assert ran == ["convert", "track", "adapt-tir", "track"]

    assert load_network(tmp_path / "dimp50.safetensors").settings.depth == 50
    assert load_network(tmp_path / "runs/tir/network.safetensors").settings.modality == "tir"
    for folder in ("tracked", "tracked_tir"):
        assert json.loads((tmp_path / folder / "summary.json").read_text())["tracked"] == FRAMES
        assert (tmp_path / folder / "track.mp4").stat().st_size > 1000
