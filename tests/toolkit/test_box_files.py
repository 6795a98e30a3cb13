from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmdistill.toolkit.box_files import read_boxes, read_result_rows, read_rows, write_boxes
from mmdistill.toolkit.data_issues import DataError


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5.5,6,7,8e1\n",
        "1\t2\t3\t4\r\n5.5\t6\t7\t80\r\n\r\n",
        "  1 2   3 4 \n5.5 6 7 80",
        "1, 2, 3, 4\n5.5 ,6 ,7 ,80\n",
        "\ufeff1,2,3,4\n5.5,6,7,80\n",
        "1;2;3;4\r5.5 ; 6;7;80",
        "1,2,3,4,\n5.5;6;7;80; \n",
        "1\t2\t3\t4\t\n5.5\t6\t7\t80 , \n",
        "1,2,3,4\r\r\n5.5\t6\t7,80\r\r\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_separators(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_bytes(text.removeprefix("\ufeff" if encoding != "utf-8" else "").encode(encoding))
    np.testing.assert_array_equal(read_boxes(path), [[1, 2, 3, 4], [5.5, 6, 7, 80]])


def test_corners_become_their_enclosing_box(tmp_path: Path) -> None:
    path = tmp_path / "corners.txt"
    path.write_text("10 20 30 20 30 50 10 50\n0,5,10,0,20,5,10,10\n")
    np.testing.assert_array_equal(read_boxes(path), [[10, 20, 20, 30], [0, 0, 20, 10]])


@pytest.mark.parametrize("columns", [4, 8])
def test_an_empty_line_may_be_a_frame_without_a_box(tmp_path: Path, columns: int) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("\n" + ",".join("1" * columns) + "\n \t\n" + ",".join("2" * columns) + "\n\n\n")
    rows = read_rows(path, empty="nan")
    assert rows.shape == (4, columns)
    assert np.isnan(rows[[0, 2]]).all()
    assert rows[[1, 3], 0].tolist() == [1, 2]
    with pytest.raises(DataError, match="line 1"):
        read_rows(path)


def test_a_failed_tracker_may_have_written_nan(tmp_path: Path) -> None:
    path = tmp_path / "boxes.txt"
    path.write_text("1,2,3,4\nNaN,nan,NaN,NaN\n")
    assert np.isnan(read_boxes(path)[1]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2: expected 4 numbers, got '1,2,3'"),
        ("1,2,3,4\n\n1,2,3,4\n", "line 2: expected 4 numbers, got ''"),
        ("1,2,3,4\n1,2,,3,4\n", "line 2"),
        ("1,2,3,4,,\n", "line 1"),
        (",1,2,3,4\n", "line 1"),
        ("1,2,3,4\n1 2 3 4 5 6 7 8\n", "line 2: expected 4 numbers"),
        ("x,y,w,h\n1,2,3,4\n", "line 1: expected 4 numbers (x y w h) or 8 (corners), got 'x,y,w,h'"),
        ("1,2,3,4,5\n", "line 1"),
        ("\n \n", "empty file"),
        ("1,234.5 20 30 40\n", "line 1"),
        ("12,5;20,5;30,25;40,75\n13,5;20,5;30,25;40,75\n", "line 1: '12,5;20,5;30,25;40,75' may be 4 numbers"),
        ("nan\tnan nan nan nan nan nan nan\n12,5\t20,5\t30,25\t40,75\n", "line 2: '12,5"),
        ("1\n1,2,3,4\n", "line 1"),
    ],
)
def test_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_boxes(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\xd8", b"1\xff", "1,2,3,4\n".encode("utf-16-le")])
def test_unreadable_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "absent.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"absent\.txt"):
        read_boxes(path)


@given(boxes=arrays(np.float64, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-1e4, 1e4)))
def test_written_boxes_are_read_back_to_a_thousandth(
    tmp_path_factory: pytest.TempPathFactory, boxes: np.ndarray
) -> None:
    path = tmp_path_factory.mktemp("round") / "boxes.txt"
    write_boxes(path, boxes, decimals=3)
    np.testing.assert_allclose(read_boxes(path), boxes, atol=0.00051, rtol=0)


def test_a_line_is_x_y_w_h(tmp_path: Path) -> None:
    write_boxes(tmp_path / "boxes.txt", [[1, 2, 3.5, 4], [np.nan] * 4], decimals=3)
    assert (tmp_path / "boxes.txt").read_text() == "1.000,2.000,3.500,4.000\nnan,nan,nan,nan\n"


def test_only_boxes_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(3, 5\)"):
        write_boxes(tmp_path / "boxes.txt", np.zeros((3, 5)))
    assert not list(tmp_path.iterdir())


@given(boxes=arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)))
def test_boxes_are_written_exactly(tmp_path_factory: pytest.TempPathFactory, boxes: np.ndarray) -> None:
    path = tmp_path_factory.mktemp("boxes") / "x.txt"
    boxes[1] = np.nan
    write_boxes(path, boxes)
    np.testing.assert_array_equal(read_boxes(path), boxes)


def test_a_lone_nan_and_lines_of_masks(tmp_path: Path) -> None:
    path = tmp_path / "car.txt"
    path.write_text("1,2,3,4\nnan\nNaN\n5,6,7,8\n")
    rows, codes = read_result_rows(path)
    np.testing.assert_array_equal(rows, [[1, 2, 3, 4], [np.nan] * 4, [np.nan] * 4, [5, 6, 7, 8]])
    assert codes == []
    path.write_text("1\nm10,10,5,5,3,4\n")
    with pytest.raises(DataError, match=r"car.txt, line 2: .*'m10,10,5,5,3,4'"):
        read_result_rows(path)
