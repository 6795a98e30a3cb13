"""Point pairs: reading the file, the robust fit, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from camera_views import homography, largest_distance

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment import describe_residuals, fit_points, read_points
from mmdistill.toolkit.data_issues import DataError

RGB, TIR = (1280, 720), (640, 512)
MATRIX = homography(1.6, 3, (330, 100), TIR)


def matching(count: int, seed: int = 0) -> Pair[np.ndarray]:
    tir = np.random.default_rng(seed).uniform((120, 120), (500, 380), (count, 2))
    mapped = np.column_stack([tir, np.ones(count)]) @ MATRIX.T
    return Pair(mapped[:, :2] / mapped[:, 2:], tir)


@pytest.mark.parametrize("separator", [",", ";", " ", "\t", ", "])
def test_reads_any_usual_separator(tmp_path: Path, separator: str) -> None:
    rows = [[10.5, 20, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    lines = ["x_rgb,y_rgb,x_tir,y_tir", "# by hand", "", *(separator.join(map(str, row)) for row in rows)]
    (tmp_path / "p.csv").write_text("\r\n".join(lines))
    points = read_points(tmp_path / "p.csv")
    np.testing.assert_array_equal(np.hstack(points), rows)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("1,2,3,4\n1,2,3\n", "line 2: expected four numbers"),
        ("1,2,3,4\nx,y,z,w\n", "line 2: expected four numbers"),
        ("a,b,c,d\ne,f,g,h\n", "line 2: expected four numbers"),
        ("1,2,3,nan\n", "line 1: expected four numbers"),
        ("1,2,3,4\n5,6,7,8\n", "at least 4 point pairs, got 2"),
        ("", "at least 4 point pairs, got 0"),
    ],
)
def test_a_malformed_file_names_the_line(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(DataError, match=r"p\.csv") as error:
        read_points(tmp_path / "p.csv")
    assert says in str(error.value)


@pytest.mark.parametrize("count", [4, 6, 20])
def test_exact_points_give_the_homography(count: int) -> None:
    fit = fit_points(matching(count), RGB, TIR)
    assert largest_distance(fit.alignment.matrix, MATRIX, TIR) < 0.01
    assert fit.residuals.max() < 0.01
    assert (fit.alignment.score, fit.alignment.method) == (1.0, "points")
    assert ("determine the homography exactly" in describe_residuals(fit)) == (count == 4)


def test_wrong_pairs_are_left_out_and_named() -> None:
    points = matching(12)
    points.rgb[[2, 7]] += [60, -45]
    fit = fit_points(points, RGB, TIR)
    assert list(np.flatnonzero(~fit.inliers)) == [2, 7]
    assert largest_distance(fit.alignment.matrix, MATRIX, TIR) < 0.01
    assert fit.alignment.score == pytest.approx(10 / 12)
    assert "10 of 12 point pairs agree" in describe_residuals(fit)
    assert describe_residuals(fit).endswith("left out: 3, 8")


@pytest.mark.parametrize(
    ("points", "says"),
    [
        (Pair(np.random.default_rng(7).uniform(0, 700, (10, 2)), matching(10).tir), "point pairs agree within"),
        (Pair(matching(6).rgb, np.stack([np.arange(6) * 50.0, np.arange(6) * 20.0], axis=1)), "lie on a line"),
        (Pair(matching(6).rgb + np.array([900, 0]), matching(6).tir), "is outside the image of 1280 x 720"),
        (Pair(matching(6).rgb, matching(6).tir + np.array([0, 400])), "is outside the image of 640 x 512"),
        (Pair(matching(6).rgb, np.tile([[3.0, 4.0]], (6, 1))), "lie on a line"),
        (Pair(matching(8).rgb * [-1, 1] + [1279, 0], matching(8).tir), "mirrors the image"),
    ],
)
def test_points_without_a_sound_homography_are_refused(points: Pair[np.ndarray], says: str) -> None:
    with pytest.raises(DataError, match=says):
        fit_points(points, RGB, TIR, "p.csv")
