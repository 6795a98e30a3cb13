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


def localized(*scores: torch.Tensor, last: tuple[tuple[float, float], ...] = ((0, 0),)) -> list[Localized]:
    """Flag, score and displacement for each map."""
    positions, sizes = torch.tensor(last, dtype=torch.float64), torch.tensor([SIZE] * len(scores), dtype=torch.float64)
    displacement, score, flag = localize(torch.stack(scores), positions, sizes, SETTINGS)
    return [
        (FLAGS[number], value, position)
        for number, value, position in zip(flag.tolist(), score.tolist(), displacement.tolist(), strict=True)
    ]


# A maximum; reach on a 19 x 19 map is 0.8 * 19 / 2 = 7.6 cells.
CASES = [
    pytest.param({(9, 9): 0.249}, (0, 0), "not_found", (0, 0), 0.249, id="low"),
    pytest.param({(10, 7): 0.25}, (0, 0), "normal", (1, -2), 0.25, id="just enough"),
    pytest.param({(10, 7): 0.6, (2, 2): 0.3}, (0, 0), "normal", (1, -2), 0.6, id="second at exactly half"),
    pytest.param({(10, 7): 0.6, (2, 2): 0.31}, (0, 0), "hard_negative", (1, -2), 0.6, id="second over half"),
    pytest.param({(10, 7): 0.3, (2, 2): 0.2}, (0, 0), "normal", (1, -2), 0.3, id="second below not found"),
    pytest.param({(10, 7): 0.6, (12, 9): 0.59}, (0, 0), "normal", (1, -2), 0.6, id="second in neighborhood"),
    pytest.param({(10, 7): 0.6, (4, 7): 0.5}, (0, 0), "uncertain", (1, -2), 0.6, id="rivals, both near"),
    pytest.param({(1, 1): 0.6, (17, 17): 0.5}, (0, 0), "uncertain", (-8, -8), 0.6, id="rivals, both far"),
    pytest.param({(10, 7): 0.6, (1, 9): 0.5}, (0, 0), "hard_negative", (1, -2), 0.6, id="rivals, first near"),
    pytest.param({(1, 9): 0.6, (10, 7): 0.5}, (0, 0), "hard_negative", (1, -2), 0.5, id="rivals, second near"),
    pytest.param({(9, 9): 0.6, (9, 16): 0.5}, (0, 0), "uncertain", (0, 0), 0.6, id="7 cells are near"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 0), "hard_negative", (0, 0), 0.6, id="8 cells are far"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 0.5), "uncertain", (0, 0), 0.6, id="but not from half a cell on"),
    pytest.param({(9, 9): 0.6, (9, 17): 0.5}, (0, 8), "hard_negative", (0, 8), 0.5, id="near is near to the last"),
]


@pytest.mark.parametrize(("peaks", "last", "flag", "displacement", "score"), CASES)
def test_cases(
    peaks: dict[tuple[int, int], float],
    last: tuple[float, float],
    flag: str,
    displacement: tuple[float, float],
    score: float,
) -> None:
    assert localized(score_map(peaks), last=(last,)) == [(flag, score, list(displacement))]


def test_sequences_do_not_see_each_other() -> None:
    peaks, last, flags, displacements, scores = zip(*(case.values for case in CASES), strict=True)
    batch = localized(*map(score_map, peaks), last=last)
    assert batch == list(zip(flags, scores, map(list, displacements), strict=True))


def test_an_even_map_is_centerd_between_cells() -> None:
    assert localized(score_map({(4, 4): 1.0}, 10, 10)) == [("normal", 1.0, [-0.5, -0.5])]


def test_height_and_width_are_independent() -> None:
    assert localized(score_map({(14, 2): 1.0}, 8, 16)) == [("normal", 1.0, [14 - 7.5, 2 - 3.5])]


def test_no_number_is_not_found() -> None:
    (flag, _, _), (other, *_) = localized(
        torch.full((19, 19), torch.nan).double(), score_map({(9, 9): 0.9}), last=((0, 0), (0, 0))
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
                round(p - s / 2) <= cell <= round(p + s / 2) for cell, p, s in zip((x, y), position, size, strict=True)
            )
            assert rest[y, x] == (0 if inside else 1)
