"""Boxes in MATLAB files, as OTB's and LSOTB-TIR's toolkits write them, and what is none."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.mat_files import read_mat_rows
from mmdistill.reference.evaluation.results import read_results

BOXES = np.array([[10.0, 20, 30, 40], [12.5, 21, 30, 40], [np.nan] * 4])


def cell(*values: object) -> np.ndarray:
    made = np.empty((1, len(values)), dtype=object)
    made[0, :] = values
    return made


def save(path: Path, content: dict[str, object], **options: object) -> Path:
    pytest.importorskip("scipy.io").savemat(path, content, **options)
    return path


@pytest.mark.parametrize(
    "content",
    [
        {"results": cell({"res": BOXES, "type": "rect", "len": 3, "startFrame": 1})},
        {"results": {"res": BOXES, "type": "rect"}},
        {"results": {"res": BOXES}},
        {"boxes": BOXES},
        {"results": BOXES},
        {"positions": BOXES, "fps": 30.0, "name": "KCF", "time": np.ones((3, 1))},
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_boxes_are_those_that_were_saved(tmp_path: Path, content: dict[str, object], compressed: bool) -> None:
    path = save(tmp_path / "car_KCF.mat", content, do_compression=compressed)
    np.testing.assert_array_equal(read_mat_rows(path), BOXES)
    np.testing.assert_array_equal(read_results(tmp_path, {"car": 3})["car"], BOXES)


def test_corners_become_boxes_and_whole_numbers_are_numbers(tmp_path: Path) -> None:
    save(tmp_path / "car.mat", {"corners": np.array([[1, 2, 4, 2, 4, 6, 1, 6]], dtype=np.uint16)})
    assert read_results(tmp_path, {"car": 1})["car"].tolist() == [[1, 2, 3, 4]]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"results": cell({"res": BOXES}, {"res": BOXES})}, "one run, got 2"),
        ({"results": {"res": np.ones((3, 6)), "type": "ivtAff"}}, "got 'ivtAff'"),
        ({"results": {"boxes": BOXES}}, "expected the field 'res'"),
        ({"results": {"res": BOXES.T}}, "4x3"),
        ({"results": {"res": "text"}}, "4 or 8 columns"),
        ({"a": BOXES, "b": BOXES}, "found a: 3x4 f, b: 3x4 f"),
        ({"results": {"res": np.ones((0, 4))}}, "0x4"),
        ({"a": BOXES + 1j}, "3x4 c"),
        ({}, "found nothing"),
    ],
)
def test_what_holds_no_boxes_is_refused(tmp_path: Path, content: dict[str, object], said: str) -> None:
    path = save(tmp_path / "car.mat", content)
    with pytest.raises(DataError, match=r"car\.mat: ") as error:
        read_mat_rows(path)
    assert said in str(error.value)


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    whole = save(tmp_path / "whole.mat", {"results": {"res": BOXES}}, do_compression=True).read_bytes()
    generator = np.random.default_rng(0)
    refused = []
    for number in range(60):
        content = bytearray(whole[: generator.integers(1, len(whole))] if number % 2 else whole)
        content[generator.integers(len(content))] ^= 1 << generator.integers(8)
        (tmp_path / "car.mat").write_bytes(content)
        try:
            assert read_mat_rows(tmp_path / "car.mat").shape[1] in (4, 8)
        except DataError as error:
            refused.append(str(error))
    assert len(refused) > 30
    assert all("car.mat: " in each for each in refused)
    for content, said in ((b"MATLAB 5.0 MAT-file", "can't be read"), (b"MATLAB 7.3 MAT-file", "-v7")):
        (tmp_path / "car.mat").write_bytes(content)
        with pytest.raises(DataError, match=rf"car\.mat.*{said}"):
            read_mat_rows(tmp_path / "car.mat")


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    (tmp_path / "car.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"car\.mat.*mmdistill\[mat\]"):
        read_results(tmp_path, {"car": 1})
