"""Small copies of benchmarks, in the layouts and with the data issues of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mmdistill.toolkit.datasets import Benchmark
from mmdistill.toolkit.images import write_image

NAMES = ["1boy`s", "dog's_[1]", "man 2", "man 10"]  # in natural order
FRAMES = 5


def boxes(first: float = 10) -> np.ndarray:
    return np.array([[first + step, 20, 8, 6] for step in range(FRAMES)], dtype=float)


def lines(values: np.ndarray, separator: str, end: str = "\n") -> str:
    return "".join(separator.join(f"{value:g}" for value in row) + end for row in values)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def images(folder: Path, names: Sequence[str], level: int = 0) -> None:
    """Write frames whose gray says which they are."""
    for index, name in enumerate(names):
        write_image(folder / name, np.full((48, 64, 3), 20 * (index % 12) + level, np.uint8))


def gray(benchmark: Benchmark, name: str, index: int) -> tuple[int | None, int | None]:
    sequence = next(each for each in benchmark.sequences if each.name == name)
    rgb, tir = sequence.frame(index)
    return tuple(None if image is None else round(image[0, 0, 0]) for image in (rgb, tir))


def names(benchmark: Benchmark) -> list[str]:
    return [sequence.name for sequence in benchmark.sequences]


def gtot(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "v", [f"{k:05d}_v.png" for k in range(1, FRAMES + 1)])
        images(root / name / "i", [f"{k:05d}_i.bmp" for k in range(1, FRAMES + 1)], level=5)
        for side, first in (("v", 10), ("i", 12)):
            corners = boxes(first)
            corners[:, 2:] += corners[:, :2]
            write(root / name / f"groundTruth_{side}.txt", lines(corners, " "))
        write(root / name / "init.txt", lines(boxes(10), "\t", "\r\n"))
    return root


def rgbt234(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "visible", [f"{k:05d}v.png" for k in range(1, FRAMES + 1)])
        images(root / name / "infrared", [f"{k:05d}i.png" for k in range(1, FRAMES + 1)], level=5)
        write(root / name / "visible.txt", lines(boxes(10), ",", "\r\n"))
        write(root / name / "infrared.txt", lines(boxes(12), ",", "\r\n"))
        write(root / name / "init.txt", lines(boxes(10), ",", "\r\n"))
    return root


def lasher(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "visible", ["v999.png", *(f"v{k}.png" for k in range(1000, 999 + FRAMES))])
        images(root / name / "infrared", [f"i{k:03d}.png" for k in range(FRAMES)], level=5)
        for file in ("visible", "infrared", "init"):
            write(root / name / f"{file}.txt", lines(boxes(), ","))
    return root
