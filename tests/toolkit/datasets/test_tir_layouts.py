"""LSOTB-TIR's and PTB-TIR's layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import FRAMES, NAMES, boxes, gray, images, lines, names, write

from mmdistill.toolkit.datasets import open_benchmark

TIR = [("lsotb-tir", "sequences", "anno", 4, 16), ("ptb-tir", "tirsequences", "tiranno", 8, 10)]


def tir(root: Path, sequences: str, annotations: str, digits: int, flags: int) -> Path:
    for name in NAMES:
        images(root / sequences / name / "img", [f"{k:0{digits}d}.png" for k in range(1, FRAMES + 1)])
        write(root / annotations / f"{name}.txt", lines(boxes(), ","))
        write(root / annotations / "att" / f"{name}.txt", "\n".join(["1", *["0"] * (flags - 1)]))
    return root


@pytest.mark.parametrize(("name", "sequences", "annotations", "digits", "flags"), TIR)
def test_tir(tmp_path: Path, name: str, sequences: str, annotations: str, digits: int, flags: int) -> None:
    root = tir(tmp_path, sequences, annotations, digits, flags)
    benchmark = open_benchmark(name, root)  # type: ignore[arg-type]
    assert names(benchmark) == NAMES
    assert gray(benchmark, "dog's_[1]", 2) == (None, 40)
    np.testing.assert_array_equal(benchmark.sequences[0].boxes, boxes())
    attributes = benchmark.sequences[0].attributes
    assert list(attributes) == [f"attribute {k}" for k in range(1, flags + 1)]
    assert [bool(each.all()) for each in attributes.values()] == [True] + [False] * (flags - 1)
    blind = open_benchmark(
        name,  # type: ignore[arg-type]
        root / annotations,
        images=False,
        attribute_names=[f"A{k}" for k in range(flags)],
    )
    assert names(blind) == NAMES
    assert next(iter(blind.sequences[0].attributes)) == "A0"


def test_tir_frames_without_annotation_and_annotation_without_frames(tmp_path: Path) -> None:
    root = tir(tmp_path, *TIR[0][1:])
    (root / "anno" / "man 2.txt").unlink()
    for image in (root / "sequences" / "man 10" / "img").iterdir():
        image.unlink()
    benchmark = open_benchmark("lsotb-tir", root, on_invalid="skip")
    assert names(benchmark) == ["1boy`s", "dog's_[1]"]
    said = "\n".join(benchmark.data_issues.lines())
    assert "anno/man 2.txt: cannot read the file" in said
    assert "man 10/img: expected images" in said


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir"])
def test_tir_in_otb_style_folders(tmp_path: Path, name: str) -> None:
    images(tmp_path / "a" / "img", [f"{k}.png" for k in range(FRAMES)])
    write(tmp_path / "a" / "groundtruth_rect.txt", lines(boxes(), ","))
    benchmark = open_benchmark(name, tmp_path)  # type: ignore[arg-type]
    assert gray(benchmark, "a", 1) == (None, 20)
