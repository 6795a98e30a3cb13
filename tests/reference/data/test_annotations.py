from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmdistill.reference.data.annotations import read_attributes, read_boxes, write_attributes, write_boxes
from mmdistill.reference.errors import DataError


@pytest.mark.parametrize("line", ["1,2,3.5,4", "1\t2\t3.5\t4", "1 2  3.5 4", " 1, 2, 3.5, 4\r"])
def test_any_separator(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.txt").write_text(f"{line}\n5 6 7 8\n\n", newline="")
    assert read_boxes(tmp_path / "x.txt").tolist() == [[1, 2, 3.5, 4], [5, 6, 7, 8]]


def test_a_polygon_becomes_its_enclosing_box(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("5,0,10,4,5,8,0,4\n")
    assert read_boxes(tmp_path / "x.txt").tolist() == [[0, 0, 10, 8]]


def test_nan_is_no_label(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("1,2,3,4\nNaN,nan,NaN,NaN\n")
    assert np.isnan(read_boxes(tmp_path / "x.txt")[1]).all()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1,2,3,4\n1,2,three,4\n", r"line 2: expected 4 numbers .* got '1,2,three,4'"),
        ("1,2,3\n", r"line 1: expected 4 numbers"),
        ("1,2,3,4\n\n1,2,3,4\n", r"line 2: expected 4 numbers .* got ''"),
        ("1,2,3,4\n1,2,nan,4\n", r"line 2"),
        ("1,2,inf,4\n", r"line 1"),
        ("1,2,3,4\n0,0,4,0,4,4,0,4\n", r"line 2: expected 4 numbers as in line 1, got 8"),
        ("", r"the file is empty"),
        (b"\xff\xfe\x00", r"byte 0 is no UTF-8"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "boxes.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"boxes\.txt.*{message}"):
        read_boxes(tmp_path / "boxes.txt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt: cannot read the file: No such file"):
        read_boxes(tmp_path / "none.txt")


@given(boxes=hnp.arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)))
def test_boxes_are_written_exactly(tmp_path_factory: pytest.TempPathFactory, boxes: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("boxes") / "x.txt"
    boxes[1] = np.nan
    write_boxes(path, boxes)
    np.testing.assert_array_equal(read_boxes(path), boxes)


def test_attributes_are_written_and_read(tmp_path: Path) -> None:
    attributes = {"occlusion": np.array([True, False, True]), "low light": np.zeros(3, bool)}
    write_attributes(tmp_path / "a.json", attributes)
    again = read_attributes(tmp_path / "a.json", 3)
    assert list(again) == list(attributes)
    for name, flags in attributes.items():
        assert again[name].dtype == bool
        np.testing.assert_array_equal(again[name], flags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 0]", r"expected \{name: .*got a list"),
        ('{"fast": [1, 0, 1]}', r"expected 2 flags 0 or 1 for 'fast'"),
        ('{"fast": [1, 2]}', r"expected 2 flags"),
        ('{"fast": 1}', r"expected 2 flags"),
        ('{"fast": [1,\n', r"line 2: not JSON"),
    ],
)
def test_malformed_attributes_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_attributes(tmp_path / "a.json", 2)
