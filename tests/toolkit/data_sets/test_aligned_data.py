"""Sequences and pairs of two cameras that don't agree, read with an alignment."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.toolkit.alignment import Alignment
from mmdistill.toolkit.alignment.alignment import to_rows
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import check_benchmark, check_pairs, open_benchmark, open_pairs, read_sequences
from mmdistill.toolkit.images import write_image

MATRIX = np.array([[1.0, 0, 30], [0, 1, 10], [0, 0, 1]])
"""TIR of 60 x 50 pixels is at 30, 10 in RGB of 100 x 80 pixels."""


@pytest.fixture
def alignment() -> Alignment:
    return Alignment(to_rows(MATRIX), (100, 80), (60, 50), where="a.json")


@pytest.fixture
def wide() -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (20, 25, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(noise, (100, 80)), np.uint8)


@pytest.fixture
def sequence(tmp_path: Path, wide: np.ndarray) -> Path:
    folder = tmp_path / "own" / "walk"
    for name in ("1.png", "2.png", "3.png"):
        write_image(folder / "rgb" / name, wide)
        write_image(folder / "tir" / name, wide[10:60, 30:90])
    write_boxes(folder / "groundtruth.txt", [[55, 30, 8, 8], [2, 2, 8, 8]])
    return folder


def test_tir_of_a_sequence_lies_on_rgb_where_it_covers_the_target(
    sequence: Path, wide: np.ndarray, alignment: Alignment
) -> None:
    (opened,) = read_sequences(sequence.parent, alignment=alignment)
    rgb, tir = opened.frame(0)
    np.testing.assert_array_equal(rgb, wide)
    assert tir is not None
    np.testing.assert_array_equal(tir[10:60, 30:90], wide[10:60, 30:90])
    assert opened.frame(1).tir is None, "the target is in the corner"
    assert opened.frame(2).tir is not None, "without a label nothing is dropped"


def test_benchmarks_take_an_alignment_of_own_sequences_only(sequence: Path, alignment: Alignment) -> None:
    opened = open_benchmark("vot", sequence.parent, alignment=alignment)
    assert opened.sequences[0].frame(1).tir is None
    with pytest.raises(DataError, match="gtot is aligned already"):
        open_benchmark("gtot", sequence.parent, alignment=alignment)


def test_a_check_reports_images_of_other_sizes(sequence: Path, alignment: Alignment) -> None:
    assert check_benchmark("vot", sequence.parent, alignment=alignment).usable == 1
    other = Alignment(to_rows(MATRIX), (100, 80), (64, 50), where="a.json")
    report = check_benchmark("vot", sequence.parent, alignment=other)
    assert report.usable == 0
    assert any("is for TIR images of 64 x 50, got 60 x 50" in line for line in report.data_issues.lines(None))
    pairs = check_pairs(rgb=sequence / "rgb", tir=sequence / "tir", alignment=other)
    assert pairs.usable == 2, "only the first pair is decoded"


def test_one_modality_has_no_alignment(tmp_path: Path, wide: np.ndarray, alignment: Alignment) -> None:
    write_image(tmp_path / "one" / "1.png", wide)
    write_boxes(tmp_path / "one" / "groundtruth.txt", [[5, 5, 9, 9]])
    with pytest.raises(DataError, match=r"expected RGB and TIR folders for a\.json"):
        read_sequences(tmp_path / "one", alignment=alignment)


def test_pairs_are_cropped_to_what_tir_covers(sequence: Path, wide: np.ndarray, alignment: Alignment) -> None:
    warnings: list[object] = []
    pairs = open_pairs(rgb=sequence / "rgb", tir=sequence / "tir", alignment=alignment, warn=warnings.append)
    rgb, tir = pairs.pair(0)
    np.testing.assert_array_equal(rgb, wide[10:60, 30:90])
    np.testing.assert_array_equal(tir, rgb)
    assert not warnings
    write_image(sequence / "tir" / "2.png", wide[:40, :40])
    with pytest.raises(DataError, match=r"2\.png: a\.json: is for TIR images of 60 x 50, got 40 x 40"):
        pairs.pair(1)
