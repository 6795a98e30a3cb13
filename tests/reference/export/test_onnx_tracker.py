"""``examples/onnx_tracker.py`` gives the boxes of ``mmdistill track``, with the exported files alone."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from mmdistill.pair import Pair
from mmdistill.reference.crops import CropGeometry, cut
from mmdistill.reference.export.files import write_files
from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.settings import LocalizationSettings, TrackingSettings
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.boxes import intersection_over_union
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.sequence import Image

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "onnx_tracker.py"
MAX_LINES = 200
LENGTH = 70  # more frames than rows in the memory, and than a block of jitter
# An untrained network's scores are low; most of them count here.
SETTINGS = TrackingSettings(localization=LocalizationSettings(not_found=0.05))


def load() -> dict[str, object]:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    space: dict[str, object] = {"__name__": "onnx_tracker"}
    exec(compile(EXAMPLE.read_text(), str(EXAMPLE), "exec"), space)
    return space


def test_it_is_short_and_needs_three_packages() -> None:
    text = EXAMPLE.read_text()
    assert len(text.splitlines()) < MAX_LINES
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        assert not isinstance(node, ast.ListComp | ast.DictComp | ast.SetComp | ast.GeneratorExp | ast.Lambda)
    assert imported - set(sys.stdlib_module_names) == {"cv2", "numpy", "onnxruntime"}


def test_crops_are_the_trackers() -> None:
    own = load()["cut"]
    assert callable(own)
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)
    for side in (2, 9, 31, 32, 64, 65, 200, 500):
        for left, top in ((-side, -side), (5, 3), (85, 40), (200, -300), (-40, 60)):
            expected = cut(image, CropGeometry(left, top, side, 32))
            np.testing.assert_array_equal(own(image, left, top, side, 32), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        student_settings(width=8, crop_size=112),
        single_settings("rgb", width=8, crop_size=128),
        single_settings("tir", width=8, crop_size=128),
    ],
    ids=["RGB-T", "RGB", "TIR"],
)
def test_the_boxes_are_the_trackers(settings: NetworkSettings, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason=f"{name} is not installed")
    torch.manual_seed(1)
    network = TrackerNetwork(settings).eval()
    write_files(network, tmp_path / "deployed", settings=SETTINGS)
    (sequence,) = synthetic_sequences(1, seed=3, settings=SyntheticSettings(length=LENGTH))
    frames: list[Pair[Image]] = [sequence.frame(index) for index in range(LENGTH)]  # type: ignore[misc]
    for index, frame in enumerate(frames):
        for modality, image in zip(("rgb", "tir"), frame, strict=True):
            write_image(tmp_path / modality / f"{index:03}.png", image)
    initial = sequence.boxes[0].round(1)

    tracker = Tracker(network, SETTINGS, seed=5)
    tracker.init(frames[0], initial)
    results = [tracker.update(frame) for frame in frames[1:]]
    assert {"normal", "hard_negative"} <= {result[2] for result in results}
    expected = np.stack([initial, *(result[0] for result in results)])
    assert np.ptp(expected[:, 0]) > 5

    command = [sys.executable, str(EXAMPLE), "--files", "deployed", "--out", "boxes.txt", "--seed", "5"]
    command += ["--init", ",".join(map(str, initial)), "--rgb", "rgb", "--tir", "tir"]
    environment = {**os.environ, "PYTHONPATH": ""}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    boxes = np.loadtxt(tmp_path / "boxes.txt", delimiter=",")
    assert intersection_over_union(boxes, expected).min() > 0.99
    assert np.abs(boxes - expected).max() < 0.05
