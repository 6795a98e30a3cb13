import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.tracking.localization import FLAGS, localize, suppress_neighborhood
from mmdistill.reference.tracking.settings import LocalizationSettings

SETTINGS = LocalizationSettings()
SIZE = (3.0, 2.0)

Localized = tuple[str, float, list[float]]


def score_map(peaks: dict[tuple[int, int], float], height: int = 19, width: int = 19) -> torch.Tensor:
    scores = torch.full((height, width), -0.05, dtype=torch.float64)
    for (x, y), score in peaks.items():
        scores[y, x] = score
    return scores


def localized(*scores: torch.Tensor, last: tuple[tuple[float, float], ...] = ((9, 9),)) -> list[Localized]:
    """Flag, score and position for each map."""
    positions, sizes = torch.tensor(last, dtype=torch.float64), torch.tensor([SIZE] * len(scores), dtype=torch.float64)
    position, score, flag = localize(torch.stack(scores), positions, sizes, SETTINGS)
    return [
        (FLAGS[number], value, cell)
        for number, value, cell in zip(flag.tolist(), score.tolist(), position.tolist(), strict=True)
    ]


# A maximum; the last position is the map's center, unless given. Reach on a 19 x 19 map is 0.8 * 19 / 2 = 7.6 cells.
CASES = [
    pytest.param({(9, 9): 0.249}, (9, 9), "not_found", (9, 9), 0.249, id="low"),
    pytest.param({(10, 7): 0.25}, (9, 9), "normal", (10, 7), 0.25, id="just enough"),
    pytest.param({(10, 7): 0.6, (2, 2): 0.3}, (9, 9), "normal", (10, 7), 0.6, id="second at exactly half"),
    pytest.param({(10, 7): 0.6, (2, 2): 0.31}, (9, 9), "hard_negative", (10, 7), 0.6, id="second over half"),
    pytest.param({(10, 7): 0.3, (2, 2): 0.2}, (9, 9), "normal", (10, 7), 0.3, id="second below not found"),
    pytest.param({(10, 7): 0.6, (12, 9): 0.59}, (9, 9), "normal", (10, 7), 0.6, id="second in neighborhood"),
    pytest.param({(10, 7): 0.6, (4, 7): 0.5}, (9, 9), "uncertain", (10, 7), 0.6, id="rivals, both near"),
    pytest.param({(1, 1): 0.6, (17, 17): 0.5}, (9, 9), "uncertain", (1, 1), 0.6, id="rivals, both far"),
    pytest.param({(10, 7): 0.6, (1, 9): 0.5}, (9, 9), "hard_negative", (10, 7), 0.6, id="rivals, first near"),
    pytest.param({(1, 9): 0.6, (10, 7): 0.5}, (9, 9), "hard_negative", (10, 7), 0.5, id="rivals, second near"),
    pytest.param({(9, 9): 0.6, (9, 16): 0.5}, (9, 9), "uncertain", (9, 9), 0.6, id="7 cells are near"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (9, 9), "hard_negative", (9, 9), 0.6, id="8 cells are far"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (9, 9.5), "uncertain", (9, 9), 0.6, id="but not from half a cell on"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (9, 17), "hard_negative", (9, 17), 0.5, id="near is near to the last"),
]


@pytest.mark.parametrize(("peaks", "last", "flag", "position", "score"), CASES)
def test_cases(
    peaks: dict[tuple[int, int], float],
    last: tuple[float, float],
    flag: str,
    position: tuple[float, float],
    score: float,
) -> None:
    assert localized(score_map(peaks), last=(last,)) == [(flag, score, list(position))]


def test_sequences_do_not_see_each_other() -> None:
    peaks, last, flags, positions, scores = zip(*(case.values for case in CASES), strict=True)
    batch = localized(*map(score_map, peaks), last=last)
    assert batch == list(zip(flags, scores, map(list, positions), strict=True))


def test_positions_count_from_the_first_cell_of_an_even_map_too() -> None:
    assert localized(score_map({(4, 5): 1.0}, 10, 10)) == [("normal", 1.0, [4, 5])]


def test_height_and_width_are_independent() -> None:
    assert localized(score_map({(14, 2): 1.0}, 8, 16)) == [("normal", 1.0, [14, 2])]


def test_no_number_is_not_found() -> None:
    (flag, _, _), (other, *_) = localized(
        torch.full((19, 19), torch.nan).double(), score_map({(9, 9): 0.9}), last=((9, 9), (9, 9))
    )
    assert (flag, other) == ("not_found", "normal")


def test_the_map_given_is_left_as_it_is() -> None:
    scores = score_map({(9, 9): 0.9})
    before = scores.clone()
    localized(scores)
    assert torch.equal(scores, before)


@given(
    st.tuples(st.integers(0, 15), st.integers(0, 9)),
    st.tuples(st.floats(0.1, 30), st.floats(0.1, 30)),
)
def test_neighborhood_cell_by_cell(position: tuple[int, int], size: tuple[float, float]) -> None:
    maps = torch.ones(1, 10, 16)
    rest = suppress_neighborhood(maps, torch.tensor([position]).double(), torch.tensor([size]).double())[0]
    for y in range(10):
        for x in range(16):
            inside = all(
                p - round(s / 2) <= cell <= p + round(s / 2) for cell, p, s in zip((x, y), position, size, strict=True)
            )
            assert rest[y, x] == (0 if inside else 1)
