"""VOT-style folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_copies import boxes, gray, images, lines, names, write

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import open_benchmark


def test_vot(tmp_path: Path) -> None:
    images(tmp_path / "a", [f"{k:08d}.png" for k in range(1, 6)])
    write(tmp_path / "a" / "groundtruth.txt", "10,20,18,20,18,26,10,26\n" * 5)
    images(tmp_path / "b" / "img", [f"{k:04d}.png" for k in range(1, 6)])
    write(tmp_path / "b" / "groundtruth_rect.txt", lines(boxes(), ","))
    write(tmp_path / "list.txt", "a\nb\n")
    benchmark = open_benchmark("vot", tmp_path, modality="tir")
    assert names(benchmark) == ["a", "b"]
    assert benchmark.sequences[0].boxes[0].tolist() == [10, 20, 8, 6]
    assert gray(benchmark, "b", 1) == (None, 20)
    assert names(open_benchmark("vot", tmp_path / "b")) == ["b"]
    (tmp_path / "b" / "groundtruth_rect.txt").unlink()
    with pytest.raises(DataError, match=r"b: expected a sequence folder with groundtruth\.txt or"):
        open_benchmark("vot", tmp_path)
