import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.tracking.localisation import localise, without_neighbourhood
from mmdistill.reference.tracking.settings import LocalisationSettings

SETTINGS = LocalisationSettings()
CENTRE = np.zeros(2)
SIZE = np.array([3.0, 2.0])


def score_map(peaks: dict[tuple[int, int], float], height: int = 19, width: int = 19) -> np.ndarray:
    scores = np.full((height, width), -0.05)
    for (x, y), score in peaks.items():
        scores[y, x] = score
    return scores


# A maximum; reach on a 19 x 19 map is 0.8 * 19 / 2 = 7.6 cells.
@pytest.mark.parametrize(
    ("peaks", "last", "flag", "displacement", "score"),
    [
        pytest.param({(9, 9): 0.249}, (0, 0), "not_found", (0, 0), 0.249, id="low"),
        pytest.param({(10, 7): 0.25}, (0, 0), "normal", (1, -2), 0.25, id="just enough"),
        pytest.param({(10, 7): 0.6, (2, 2): 0.3}, (0, 0), "normal", (1, -2), 0.6, id="second at exactly half"),
        pytest.param({(10, 7): 0.6, (2, 2): 0.31}, (0, 0), "hard_negative", (1, -2), 0.6, id="second over half"),
        pytest.param({(10, 7): 0.3, (2, 2): 0.2}, (0, 0), "normal", (1, -2), 0.3, id="second below not found"),
        pytest.param({(10, 7): 0.6, (12, 9): 0.59}, (0, 0), "normal", (1, -2), 0.6, id="second in neighbourhood"),
        pytest.param({(10, 7): 0.6, (4, 7): 0.5}, (0, 0), "uncertain", (1, -2), 0.6, id="rivals, both near"),
        pytest.param({(1, 1): 0.6, (17, 17): 0.5}, (0, 0), "uncertain", (-8, -8), 0.6, id="rivals, both far"),
        pytest.param({(10, 7): 0.6, (1, 9): 0.5}, (0, 0), "hard_negative", (1, -2), 0.6, id="rivals, first near"),
        pytest.param({(1, 9): 0.6, (10, 7): 0.5}, (0, 0), "hard_negative", (1, -2), 0.5, id="rivals, second near"),
        pytest.param({(9, 9): 0.6, (9, 16): 0.5}, (0, 0), "uncertain", (0, 0), 0.6, id="7 cells are near"),
        pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 0), "hard_negative", (0, 0), 0.6, id="8 cells are far"),
        pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 0.5), "uncertain", (0, 0), 0.6, id="but not from half a cell on"),
        pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 8), "hard_negative", (0, 8), 0.5, id="near is near to the last"),
    ],
)
def test_branches(
    peaks: dict[tuple[int, int], float],
    last: tuple[float, float],
    flag: str,
    displacement: tuple[float, float],
    score: float,
) -> None:
    found = localise(score_map(peaks), np.array(last, dtype=float), SIZE, SETTINGS)
    assert (found.flag, found.score) == (flag, score)
    np.testing.assert_array_equal(found.displacement, displacement)


def test_an_even_map_is_centred_between_cells() -> None:
    found = localise(score_map({(4, 4): 1.0}, 10, 10), CENTRE, SIZE, SETTINGS)
    np.testing.assert_array_equal(found.displacement, [-0.5, -0.5])


def test_height_and_width_are_independent() -> None:
    found = localise(score_map({(14, 2): 1.0}, 8, 16), CENTRE, SIZE, SETTINGS)
    np.testing.assert_array_equal(found.displacement, [14 - 7.5, 2 - 3.5])


def test_no_number_is_not_found() -> None:
    assert localise(np.full((5, 5), np.nan), CENTRE, SIZE, SETTINGS).flag == "not_found"


def test_the_map_given_is_left_as_it_is() -> None:
    scores = score_map({(9, 9): 0.9})
    before = scores.copy()
    localise(scores, CENTRE, SIZE, SETTINGS)
    np.testing.assert_array_equal(scores, before)


@given(
    st.tuples(st.integers(0, 15), st.integers(0, 9)),
    st.tuples(st.floats(0.1, 30), st.floats(0.1, 30)),
)
def test_neighbourhood_cell_by_cell(place: tuple[int, int], size: tuple[float, float]) -> None:
    rest = without_neighbourhood(np.ones((10, 16)), np.array(place, dtype=float), np.array(size))
    for y in range(10):
        for x in range(16):
            inside = all(
                round(p - s / 2) <= cell <= round(p + s / 2) for cell, p, s in zip((x, y), place, size, strict=True)
            )
            assert rest[y, x] == (0 if inside else 1)
