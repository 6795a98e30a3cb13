"""VTUAV's layout, with a box for each frame or each tenth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import boxes, images, lines, write

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import open_benchmark


@pytest.mark.parametrize("place", ["ir", "ir_gray"])
@pytest.mark.parametrize(("frames", "labels"), [(21, 3), (30, 3), (25, 3), (21, 21), (21, 20)])
def test_vtuav(tmp_path: Path, place: str, frames: int, labels: int) -> None:
    folder = tmp_path / "test" / "bus_001"
    images(folder / "rgb", [f"{k:06d}.png" for k in range(frames)])
    images(folder / place, [f"{k:06d}.png" for k in range(frames)], level=5)
    truth = np.array([[10 + step, 20, 8, 6] for step in range(labels)], dtype=float)
    other = truth + np.array([1, 0, 0, 0])
    write(folder / "rgb.txt", lines(truth, " "))
    write(folder / "ir.txt", lines(other, " "))
    sequence = open_benchmark("vtuav", tmp_path).sequences[0]
    every = 1 if labels >= 20 else 10
    assert len(sequence) == (labels if every == 1 else frames)
    labeled = np.flatnonzero(np.isfinite(sequence.truths[0]).all(axis=1))
    assert labeled.tolist() == [every * k for k in range(labels)]
    np.testing.assert_array_equal(sequence.truths[1][labeled], other)
    if every == 10:
        blind = open_benchmark("vtuav", tmp_path, images=False).sequences[0]
        assert len(blind) == 30
        np.testing.assert_array_equal(blind.truths[0][[0, 10, 20]], truth)


def test_vtuav_with_too_few_boxes(tmp_path: Path) -> None:
    for side in ("rgb", "ir"):
        images(tmp_path / "bus" / side, [f"{k}.png" for k in range(40)])
        write(tmp_path / "bus" / f"{side}.txt", lines(boxes()[:2], " "))
    with pytest.raises(DataError, match=r"rgb\.txt: expected a box for each of 40 frames, or for one of 10, got 2"):
        open_benchmark("vtuav", tmp_path)
