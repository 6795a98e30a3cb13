from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.drawing.primitives import MAX_OPACITY, ResponseMap, draw_response, heat_colors


def bump(row: int, column: int, side: int = 19, height: float = 1.0) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side]
    return (height * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2)).astype(np.float32)


@given(row=st.integers(2, 16), column=st.integers(2, 16), scale=st.floats(0.5, 2.5))
def test_a_cell_is_drawn_where_it_stands(row: int, column: int, scale: float) -> None:
    area = np.array([20.0, 10.0, 180.0, 144.0])
    panel = np.full((round(180 * scale), round(240 * scale), 3), 90, np.uint8)
    before = panel.copy()
    draw_response(panel, ResponseMap(bump(row, column), area), scale)
    # Cell i of a 288-pixel crop stands at 16 i crop pixels, and the crop covers the area.
    expected = area[:2] + 16 * np.array([column, row]) * area[2:] / 288
    strength = np.abs(panel.astype(float) - before).sum(axis=-1)
    strength[(panel == (235, 235, 235)).all(axis=-1) | (panel == (24, 24, 24)).all(axis=-1)] = 0  # the corners
    down, across = np.nonzero(strength > 30)
    center = np.array([across.mean(), down.mean()]) + 0.5
    np.testing.assert_allclose(center / scale, expected, atol=1.5)


def test_low_scores_leave_the_image_as_it_is() -> None:
    panel = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    before = panel.copy()
    draw_response(panel, ResponseMap(bump(9, 9, height=0.1), np.array([-100.0, -100.0, 300.0, 300.0])), 1.0)
    np.testing.assert_array_equal(panel[27:33, 27:53], before[27:33, 27:53])


def test_the_highest_score_is_as_opaque_as_it_gets() -> None:
    panel = np.full((101, 101, 3), 200, np.uint8)
    draw_response(panel, ResponseMap(np.ones((19, 19), np.float32), np.array([-20.0, -20.0, 141.0, 141.0])), 1.0)
    expected = 200 * (1 - MAX_OPACITY) + heat_colors(np.ones(1))[0] * MAX_OPACITY
    np.testing.assert_allclose(panel[50, 50], expected, atol=1)


@pytest.mark.parametrize("area", [(-400, 0, 100, 100), (0, 500, 100, 100), (-1e9, -1e9, 10, 10)])
def test_an_area_outside_the_image_is_not_drawn(area: tuple[float, ...]) -> None:
    panel = np.full((60, 80, 3), 90, np.uint8)
    draw_response(panel, ResponseMap(bump(9, 9), np.array(area, dtype=float)), 1.0)
    assert (panel == 90).all()


def test_the_corners_of_the_area_are_marked() -> None:
    panel = np.full((100, 120, 3), 90, np.uint8)
    draw_response(panel, ResponseMap(np.zeros((19, 19), np.float32), np.array([30.0, -20.0, 60.0, 80.0])), 1.0)
    rows, columns = np.nonzero((panel == 235).all(axis=-1))
    assert (columns.min(), columns.max(), rows.max()) == (30, 90, 60)
    assert rows.min() == 0, "where the area leaves the image"
    assert (panel[25:40, 40:80] == 90).all()
