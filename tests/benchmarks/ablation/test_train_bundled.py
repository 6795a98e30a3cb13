"""The bundled network's training at toy size: both students, real sequences, and the file that is shipped."""

import importlib
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from ablation_toy import part, toy
from safetensors.torch import load_file

from mmdistill.reference.models.weights import load_network
from mmdistill.toolkit.images import write_image


def write_pictures(root: Path) -> Path:
    """A few photographs and cut-outs in every part."""
    generator = np.random.default_rng(0)
    names = [f"{number}" for number in range(200)]
    split = importlib.import_module("parts.bundled.pictures").split_pictures
    for kind, suffix in (("photographs", ".png"), ("cutouts", ".png")):
        (root / kind).mkdir(parents=True)
        for part_files in split(Path(name + suffix) for name in names).values():
            for file in part_files[:2]:
                small = generator.integers(256, size=(6, 8, 3), dtype=np.uint8)
                image = cv2.resize(small, (240, 180) if kind == "photographs" else (60, 50))
                if kind == "cutouts":
                    alpha = cv2.ellipse(np.zeros((50, 60), np.uint8), (30, 25), (28, 23), 0, 0, 360, 255, -1)
                    image = np.dstack([image, alpha])
                cv2.imwrite(str(root / kind / file.name), image)
    return root


def write_sequence(root: Path) -> None:
    """A sequence of three images with a bright square."""
    image = np.full((90, 120, 3), 60, np.uint8)
    image[30:50, 40:60] = 220
    for number in range(1, 4):
        write_image(root / f"{number:04d}.jpg", image)
    (root / "groundtruth.txt").write_text("40,30,20,20\n" * 3)


def test_it_trains_tracks_and_writes_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("train_bundled")
    size = toy(part("sizes"))
    missing = replace(size.student, samples=replace(size.student.samples, missing=0.5))
    monkeypatch.setattr(module, "BUNDLED", replace(size, student=missing))
    monkeypatch.setattr(module, "describe", lambda videos: {"test sequences": len(videos.test())})
    pictures = write_pictures(tmp_path / "pictures")
    for name in ("rgb/one", "tir/two"):
        write_sequence(tmp_path / "data" / name)
    out, network = tmp_path / "report.json", tmp_path / "student.safetensors"

    def run(*more: object) -> dict[str, Any]:
        command = ["train_bundled.py", "--pictures", pictures, "--trunk", "", "--root", tmp_path / "data"]
        command += ["--work-dir", tmp_path / "runs", "--out", out, "--network", network, "--seeds", 0, 1, *more]
        monkeypatch.setattr(sys, "argv", [str(word) for word in [*command, "--device", "cpu"]])
        module.main()
        report: dict[str, Any] = json.loads(out.read_text())
        return report

    stopped = run("--time-limit", 0)
    assert stopped["unfinished"]
    assert not network.exists()
    report = run()
    assert report["unfinished"] == []
    assert list(report["by seed"]["1"]) == ["teacher", "blocks", "cmd"]
    assert {name: list(seeds) for name, seeds in report["real sequences"].items()} == {
        "blocks": ["0", "1"],
        "cmd": ["0", "1"],
    }
    assert list(report["real sequences"]["cmd"]["0"]) == ["one", "two"]
    assert {tensor.dtype for tensor in load_file(network).values() if tensor.is_floating_point()} == {torch.bfloat16}
    shipped = load_network(network).state_dict()
    trained = load_network(tmp_path / "runs/seed_0/cmd/network.safetensors").state_dict()
    for name, tensor in trained.items():
        torch.testing.assert_close(shipped[name], tensor, rtol=2**-8, atol=0)
    assert str(tmp_path) not in out.read_text()
    lines = module.table(report)
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| composed, RGB-T", "| one", "| two"]
