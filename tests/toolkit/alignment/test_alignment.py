"""The file of an alignment, warping and coverage, against plain computations pixel by pixel."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from camera_views import homography, scene

from mmdistill.toolkit.alignment import Alignment, read_alignment, write_alignment
from mmdistill.toolkit.alignment.alignment import derivative, to_rows, transform
from mmdistill.toolkit.data_issues import DataError

VALID = {"homography": [[2, 0, 0], [0, 2, 0], [0, 0, 1]], "rgb_size": [64, 48], "tir_size": [32, 24]}


def written(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_written_alignment_is_read_again(tmp_path: Path) -> None:
    alignment = Alignment(
        to_rows(homography(1.3, 4, (7, -3), (32, 24))), (64, 48), (32, 24), -0.125, 0.75, "points", where="x"
    )
    write_alignment(tmp_path / "a.json", alignment)
    again = read_alignment(tmp_path / "a.json")
    assert again == replace(alignment, where=str(tmp_path / "a.json"))
    assert json.loads((tmp_path / "a.json").read_text())["delay"] == -0.125


def test_what_a_person_writes_needs_three_fields(tmp_path: Path) -> None:
    alignment = read_alignment(written(tmp_path / "a.json", VALID))
    assert (alignment.delay, alignment.score, alignment.method) == (None, None, "manual")
    np.testing.assert_allclose(alignment.to_rgb([[3, 4]]), [[6, 8]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"homography": None}, "expected 'homography' as three rows of three finite numbers"),
        ({"homography": [[1, 0, 0], [0, 1, 0]]}, "'homography' as three rows"),
        ({"homography": [[1, 0, 0], [0, 1, "0"], [0, 0, 1]]}, "'homography' as three rows"),
        ({"homography": [[1, 0, 0], [0, 1, float("nan")], [0, 0, 1]]}, "'homography' as three rows"),
        ({"homography": [[1, 0, 0], [0, 1, float("inf")], [0, 0, 1]]}, "'homography' as three rows"),
        ({"homography": [[1, 0, 0], [1, 0, 0], [0, 0, 1]]}, "'homography' that can be inverted"),
        ({"homography": [[-1, 0, 40], [0, 1, 0], [0, 0, 1]]}, "keeps the orientation, it mirrors"),
        ({"homography": [[1, 0, 0], [0, 1, 0], [0.1, 0, -1]]}, "a part lies at infinity"),
        ({"rgb_size": [64]}, "expected 'rgb_size' as width and height"),
        ({"rgb_size": [64, 0]}, "expected 'rgb_size' as width and height"),
        ({"rgb_size": [90_000, 90_000]}, "more than the limit of 100,000,000"),
        ({"tir_size": [32.5, 24]}, "expected 'tir_size' as width and height"),
        ({"tir_size": [True, 24]}, "expected 'tir_size' as width and height"),
        ({"delay": "1"}, "a finite number or null for 'delay'"),
        ({"delay": float("inf")}, "a finite number or null for 'delay'"),
        ({"score": 1.5}, "a 'score' from 0 to 1"),
        ({"method": 3}, "a text for 'method'"),
        ({"shift": 3}, "unknown field 'shift'"),
        ({"homography": [[1, 0, 1000], [0, 1, 0], [0, 0, 1]]}, "covers no part of RGB's frame"),
    ],
)
def test_a_malformed_file_names_the_field(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    path = written(tmp_path / "a.json", VALID | change)
    with pytest.raises(DataError, match=r"a\.json: ") as error:
        read_alignment(path)
    assert says in str(error.value)


@pytest.mark.parametrize("name", ["homography", "rgb_size", "tir_size"])
def test_a_missing_field_is_named(tmp_path: Path, name: str) -> None:
    content = {key: value for key, value in VALID.items() if key != name}
    with pytest.raises(DataError, match=f"expected a field '{name}'"):
        read_alignment(written(tmp_path / "a.json", content))


def test_a_rotation_by_half_a_turn_is_no_mirror() -> None:
    Alignment(to_rows(homography(1.0, 180, (0, 0), (32, 24))), (32, 24), (32, 24))


@pytest.mark.parametrize(
    "matrix", [homography(1.5, 10, (5, -4), (40, 30)), [[1.2, 0.1, 3], [0, 1.1, -2], [2e-3, 1e-3, 1]]]
)
def test_warp_and_mask_agree_with_a_computation_of_each_pixel(matrix: Any) -> None:
    tir = scene(0, (40, 30), shapes=6).tir
    alignment = Alignment(to_rows(matrix), (60, 50), (40, 30))
    warped, inverse = alignment.warp(tir), np.linalg.inv(np.asarray(matrix, dtype=float))
    compared = 0
    for y in range(50):
        for x in range(60):
            u, v, depth = inverse @ [x, y, 1.0]
            u, v = u / depth, v / depth
            assert alignment.mask[y, x] == (-0.5 <= u <= 39.5 and -0.5 <= v <= 29.5)
            if 0 <= u <= 38.99 and 0 <= v <= 28.99:
                column, row = int(u), int(v)
                a, b = u - column, v - row
                corner = tir[row : row + 2, column : column + 2, 0].astype(float)
                expected = np.array([1 - b, b]) @ corner @ np.array([1 - a, a])
                assert abs(warped[y, x, 0] - expected) < 4  # OpenCV rounds positions to 1/32 pixel
                compared += 1
    assert compared > 500
    assert alignment.coverage == pytest.approx(alignment.mask.mean())


def test_uncovered_pixels_repeat_the_nearest_edge() -> None:
    tir = np.zeros((24, 32, 3), np.uint8)
    tir[:, 0], tir[:, -1] = 50, 200
    warped = Alignment(to_rows([[1, 0, 10], [0, 1, 0], [0, 0, 1]]), (64, 24), (32, 24)).warp(tir)
    assert (warped[:, :10] == 50).all()
    assert (warped[:, 42:] == 200).all()


def test_a_large_tir_image_is_averaged() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 1), dtype=np.uint8).repeat(3, axis=2)
    warped = Alignment(to_rows(np.diag([0.1, 0.1, 1.0])), (40, 40), (400, 400)).warp(noise)
    assert warped[2:-2, 2:-2].std() < 20  # the mean of 100 pixels has a deviation of 7, a single one of 74


def test_sizes_other_than_the_alignments_are_refused() -> None:
    alignment = Alignment(to_rows(np.eye(3)), (64, 48), (32, 24), where="a.json")
    with pytest.raises(DataError, match=r"a\.json: is for TIR images of 32 x 24, got 24 x 32.*mmdistill align"):
        alignment.warp(np.zeros((32, 24, 3), np.uint8))
    with pytest.raises(DataError, match=r"is for RGB images of 64 x 48, got 60 x 48 in video"):
        alignment.check_size("RGB", (60, 48), "video")


def test_the_description_has_scale_rotation_and_shift() -> None:
    alignment = Alignment(to_rows(homography(1.25, -3, (12, -5.5), (64, 48))), (64, 48), (64, 48))
    text = alignment.describe()
    assert text == "scale 1.250, rotation 3.00 degrees counterclockwise, shift 12.0 pixels right and 5.5 up"


def test_the_derivative_is_that_of_differences() -> None:
    matrix = np.array([[1.2, 0.1, 3], [0.05, 1.1, -2], [2e-3, 1e-3, 1]])
    center, step = np.array([19.5, 14.5]), 1e-5
    steps = np.array([[step, 0], [-step, 0], [0, step], [0, -step]])
    moved = transform(matrix, center + steps)
    differences = np.stack([moved[0] - moved[1], moved[2] - moved[3]], axis=1) / (2 * step)
    np.testing.assert_allclose(derivative(matrix, (40, 30)), differences, rtol=1e-6)


def test_an_alignment_goes_to_worker_processes() -> None:
    alignment = Alignment(to_rows(np.eye(3)), (8, 6), (8, 6))
    assert pickle.loads(pickle.dumps(alignment)) == alignment
    assert alignment.coverage == 1
