"""Boxes in MATLAB files, as OTB's and LSOTB-TIR's toolkits write them, and what is none."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.evaluation import mat_files
from mmdistill.toolkit.evaluation.mat_files import read_mat_rows
from mmdistill.toolkit.evaluation.results import read_results

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


def element(kind: int, content: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}II", kind, len(content)) + content + bytes(-len(content) % 8)


def array(kind: int, axes: tuple[int, ...], content: bytes, order: str = "<", name: bytes = b"results") -> bytes:
    flags = element(6, struct.pack(f"{order}II", kind, 0), order)
    return element(
        14,
        flags + element(5, struct.pack(f"{order}{len(axes)}i", *axes), order) + element(1, name, order) + content,
        order,
    )


def compressed(content: bytes) -> bytes:
    packed = zlib.compress(content)
    return struct.pack("<II", 15, len(packed)) + packed


def file_of(content: bytes, order: str = "<") -> bytes:
    end = struct.pack(f"{order}H", 0x0100) + (b"IM" if order == "<" else b"MI")
    return b"MATLAB 5.0 MAT-file".ljust(124) + end + content


CELL, STRUCTURE, TEXT, DOUBLE, COMPLEX = 1, 2, 4, 6, 1 << 11
MATRIX = array(DOUBLE, (1, 4), element(9, struct.pack("<4d", 1, 2, 3, 4)), name=b"")


def nested(times: int) -> bytes:
    content = MATRIX
    for _ in range(times):
        content = array(CELL, (1, 1), content)
    return content


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (file_of(array(CELL, (1 << 14, 1 << 14), b"")), "268,435,456 entries"),
        (file_of(array(CELL, (1 << 14, 1 << 14), b"", ">"), ">"), "268,435,456 entries"),
        (file_of(compressed(array(CELL, (1 << 14, 1 << 14), b""))), "268,435,456 entries"),
        (file_of(array(CELL, (1, 1), array(STRUCTURE, (1 << 13, 1 << 14), b""))), "134,217,728 entries"),
        (file_of(array(DOUBLE, (1 << 26, 4), struct.pack("<II", 9, 1 << 31))), "2,147,483,648 bytes, 0 remain"),
        (file_of(compressed(struct.pack("<II", 14, 1 << 31))), "2,147,483,648 bytes, 0 remain"),
        (file_of(nested(21)), "more than 20 times"),
        (file_of(nested(2000)), "more than 20 times"),
        (file_of(array(STRUCTURE, (1, 1), element(5, b"\1\0\0\0") + element(1, b"a" * 1001))), "1,001 fields"),
        # Each of these crashes SciPy 1.17, or reads past the array.
        (file_of(array(TEXT, (), element(16, b"text"))), "2 to 32 axes, got 0"),
        (file_of(array(DOUBLE, (1, 4), element(14, b""))), "class 6: expected 1 elements, got 1 of types 14"),
        (
            file_of(array(DOUBLE, (1, 4), element(0xFE10, bytes(32)))),
            "class 6: expected 1 elements, got 1 of types 65040",
        ),
        (file_of(array(DOUBLE | COMPLEX, (1, 4), element(9, bytes(32)))), "class 6: expected 2 elements, got 1"),
        (file_of(array(CELL, (1, 2), MATRIX)), "class 1: expected 2 elements, got 1"),
        (file_of(array(99, (1, 1), b"")), "unknown class 99"),
        (file_of(element(9, bytes(32))), "expected an array, got an element of type 9"),
    ],
)
def test_what_scipy_does_not_check_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    pytest.importorskip("scipy.io")
    (tmp_path / "car.mat").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"car\.mat.*{said}"):
        read_mat_rows(tmp_path / "car.mat")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 + 30 * len(content)


def test_a_file_is_unpacked_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy.io")
    monkeypatch.setattr(mat_files, "MAX_TEXT_BYTES", 100_000)
    half = compressed(array(DOUBLE, (1500, 4), element(9, bytes(48_000)), name=b"a"))
    (tmp_path / "car.mat").write_bytes(file_of(half))
    assert read_mat_rows(tmp_path / "car.mat").shape == (1500, 4)
    (tmp_path / "car.mat").write_bytes(file_of(half * 3))
    with pytest.raises(DataError, match=r"car\.mat.*unpacks to more than 100,000 bytes"):
        read_mat_rows(tmp_path / "car.mat")


def test_a_cell_has_a_limited_number_of_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy.io")
    monkeypatch.setattr(mat_files, "_MAX_ENTRIES", 100)
    for count, said in ((100, "one run, got 100"), (101, "class 1: expected 101 elements")):
        (tmp_path / "car.mat").write_bytes(file_of(array(CELL, (1, count), MATRIX * count)))
        with pytest.raises(DataError, match=rf"car\.mat.*{said}"):
            read_mat_rows(tmp_path / "car.mat")


@pytest.mark.parametrize("order", ["<", ">"])
def test_arrays_in_cells_are_read_in_both_byte_orders(tmp_path: Path, order: str) -> None:
    pytest.importorskip("scipy.io")
    boxes = array(DOUBLE, (1, 4), element(9, struct.pack(f"{order}4d", 1, 2, 3, 4), order), order, name=b"")
    names = struct.pack(f"{order}HH", 4, 5) if order == ">" else struct.pack("<HH", 5, 4)  # a short element
    fields = names + struct.pack(f"{order}i", 8) + element(1, b"res".ljust(8, b"\0"), order)
    content = array(CELL, (1, 1), array(STRUCTURE, (1, 1), fields + boxes, order, name=b""), order)
    (tmp_path / "car.mat").write_bytes(file_of(content, order))
    assert read_mat_rows(tmp_path / "car.mat").tolist() == [[1, 2, 3, 4]]


def test_without_scipy_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    (tmp_path / "car.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"car\.mat.*mmdistill\[mat\]"):
        read_results(tmp_path, {"car": 1})
