from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.data.box_files import write_boxes
from mmdistill.reference.errors import DataError
from mmdistill.reference.evaluation.results import (
    find_result,
    fit_length,
    read_results,
)


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
