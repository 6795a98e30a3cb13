from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.results import (
    find_result,
    fit_length,
    read_boxes,
    read_results,
    write_boxes,
)


@pytest.mark.parametrize(
    "text",
    [
        "1,2,3,4\n5.5,6,7,8e1\n",
        "1\t2\t3\t4\r\n5.5\t6\t7\t80\r\n\r\n",
        "  1 2   3 4 \n5.5 6 7 80",
        "1, 2, 3, 4\n5.5 ,6 ,7 ,80\n",
        "\ufeff1,2,3,4\n5.5,6,7,80\n",
    ],
)
def test_separators(tmp_path: Path, text: str) -> None:
    path = tmp_path / "boxes.txt"
    path.write_bytes(text.encode())
    np.testing.assert_array_equal(read_boxes(path), [[1, 2, 3, 4], [5.5, 6, 7, 80]])


def test_corners_become_their_enclosing_box(tmp_path: Path) -> None:
    path = tmp_path / "corners.txt"
    path.write_text("10 20 30 20 30 50 10 50\n0,5,10,0,20,5,10,10\n")
    np.testing.assert_array_equal(read_boxes(path), [[10, 20, 20, 30], [0, 0, 20, 10]])


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
        ("1,2,3,4\n1 2 3 4 5 6 7 8\n", "line 2: expected 4 numbers"),
        ("x,y,w,h\n1,2,3,4\n", "line 1: expected 4 numbers (x y w h) or 8 (corners), got 'x,y,w,h'"),
        ("1,2,3,4,5\n", "line 1"),
        ("\n \n", "empty file"),
    ],
)
def test_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.txt"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        read_boxes(path)
    assert str(path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00\x81"])
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
    write_boxes(path, boxes)
    np.testing.assert_allclose(read_boxes(path), boxes, atol=0.00051, rtol=0)


def test_a_line_is_x_y_w_h(tmp_path: Path) -> None:
    write_boxes(tmp_path / "boxes.txt", [[1, 2, 3.5, 4], [np.nan] * 4])
    assert (tmp_path / "boxes.txt").read_text() == "1.000,2.000,3.500,4.000\nnan,nan,nan,nan\n"


def test_only_boxes_are_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\(3, 5\)"):
        write_boxes(tmp_path / "boxes.txt", np.zeros((3, 5)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["man.txt", "ADRNet_man.txt"], "man.txt"),
        (["ADRNet_man.txt", "ADRNet_woman.txt", "ADRNet_man2.txt"], "ADRNet_man.txt"),
        (["ADRNet_a_man.txt", "ADRNet_man.txt"], "ADRNet_man.txt"),
        (["SiamX_v2_man.txt", "SiamX_v2_old_man.txt"], "SiamX_v2_man.txt"),
    ],
)
def test_result_is_found_with_or_without_prefix(tmp_path: Path, files: list[str], expected: str) -> None:
    for file in files:
        (tmp_path / file).touch()
    assert find_result(tmp_path, "man") == tmp_path / expected


def test_names_with_quotes_are_found(tmp_path: Path) -> None:
    (tmp_path / "X_baby's [1]`.txt").touch()
    assert find_result(tmp_path, "baby's [1]`").name == "X_baby's [1]`.txt"


def test_result_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "woman.txt").touch()
    with pytest.raises(DataError, match="no result for sequence man"):
        find_result(tmp_path, "man")
    with pytest.raises(DataError, match="expected a folder"):
        find_result(tmp_path / "absent", "man")


def test_ambiguous_result(tmp_path: Path) -> None:
    for file in ("A_man.txt", "B_man.txt"):
        (tmp_path / file).touch()
    with pytest.raises(DataError, match=r"A_man\.txt and B_man\.txt"):
        find_result(tmp_path, "man")


@pytest.mark.parametrize(
    ("frames", "rows", "message"),
    [
        (4, [0, 1, 2, 3], ""),
        (5, [0, 1, 2, 3, 3], "the last is repeated"),
        (3, [0, 1, 2], "the rest is cut off"),
        (2, [0, 1], "the rest is cut off"),
    ],
)
def test_length_is_fitted_and_logged(
    caplog: pytest.LogCaptureFixture, frames: int, rows: list[int], message: str
) -> None:
    boxes = np.arange(16.0).reshape(4, 4)
    with caplog.at_level(logging.WARNING):
        fitted = fit_length(boxes, frames, where="man.txt")
    np.testing.assert_array_equal(fitted, boxes[rows])
    assert len(caplog.messages) == bool(message)
    assert message in "".join(caplog.messages)


def test_too_short_a_result_is_an_error() -> None:
    with pytest.raises(DataError, match=r"man\.txt: expected a box for each of 6 frames, got 4"):
        fit_length(np.zeros((4, 4)), 6, where="man.txt")


def test_results_of_a_benchmark(tmp_path: Path) -> None:
    write_boxes(tmp_path / "a.txt", [[1, 2, 3, 4]] * 2)
    write_boxes(tmp_path / "T_b.txt", [[5, 6, 7, 8]] * 3)
    results = read_results(tmp_path, {"a": 2, "b": 2})
    assert {name: boxes.tolist() for name, boxes in results.items()} == {
        "a": [[1, 2, 3, 4]] * 2,
        "b": [[5, 6, 7, 8]] * 2,
    }
