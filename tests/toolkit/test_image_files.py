"""Image files of a folder, and natural order."""

from __future__ import annotations

import pickle
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.image_files import ImageFiles, list_images, natural_sort_key, reads_as_decimals, sort_naturally

# Few letters, so that names often differ in their digits alone; a decimal digit that is not ASCII among them.
STEMS = st.lists(st.text("ab019\u0663", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)
SAME_LENGTH = st.integers(1, 3).flatmap(lambda n: st.lists(st.text("0129", min_size=n, max_size=n), min_size=1))


@given(stems=STEMS | SAME_LENGTH)
def test_images_are_in_natural_order(stems: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("images")
    names = {f"{stem}.jpg" for stem in stems}
    for name in names:
        (folder / name).touch()
    assert list_images(folder).names == sorted(names, key=natural_sort_key)


def test_paths_are_made_as_needed() -> None:
    files = ImageFiles(Path("folder"), ["a.png", "b.png", "c.png"])
    assert files[1] == Path("folder/b.png")
    assert list(files[1:]) == [Path("folder/b.png"), files[-1]]
    assert len(files[:2]) == 2
    assert list(pickle.loads(pickle.dumps(files))) == list(files)
    with pytest.raises(IndexError):
        files[3]


def in_order(names: list[str]) -> tuple[list[str], list[str]]:
    warnings: list[str] = []
    return sort_naturally(names, str, "folder", warnings.append), warnings


TIMES = st.lists(
    st.decimals(min_value=0, max_value=2_000_000_000, places=3, allow_nan=False, allow_infinity=False),
    min_size=2,
    unique=True,
)


@given(times=TIMES, point=st.sampled_from(".,"))
def test_names_that_are_times_are_ordered_by_value(times: list[Decimal], point: str) -> None:
    names = [f"{value:f}".replace(".", point) + ".png" for value in times]
    assert in_order(names)[0] == [name for _, name in sorted(zip(times, names, strict=True))]
    short = [name.removesuffix(".png").rstrip("0").rstrip(point) + ".png" for name in names]
    assert in_order(short)[0] == [name for _, name in sorted(zip(times, short, strict=True))]


@given(numbers=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 1200)), min_size=2, unique=True))
@pytest.mark.parametrize("form", ["shot{}.{}.png", "v{}.{}", "frame_{}.{:02d}.jpg", "{}.1.{}"])
@pytest.mark.slow
def test_counters_after_a_point_stay_whole_numbers(numbers: list[tuple[int, int]], form: str) -> None:
    names = [form.format(*each) for each in numbers]
    ordered = [form.format(*each) for each in sorted(numbers)]
    got = in_order(names)[0]
    assert got == ordered or reads_as_decimals(names)


@pytest.mark.parametrize(
    ("names", "order", "reading"),
    [
        # Fractions for certain: 017 and 05 can't both be whole numbers.
        (["7.15.png", "7.017.png", "7.05.png", "8.png"], ["7.017.png", "7.05.png", "7.15.png", "8.png"], "fractions"),
        (["cam_7.15.png", "cam_7.017.png", "cam_7.05.png"], ["cam_7.017.png", "cam_7.05.png", "cam_7.15.png"], "frac"),
        # Whole numbers for certain: .10 is no fraction beside .9.
        (["1.9.png", "1.10.png", "1.2.png"], ["1.2.png", "1.9.png", "1.10.png"], "whole numbers"),
        (["a1.2", "a1.10", "a1.9"], ["a1.2", "a1.9", "a1.10"], "whole numbers"),
        # Either: numbers alone are fractions, names with text have whole numbers.
        (["1.2.png", "1.15.png"], ["1.15.png", "1.2.png"], "fractions"),
        (["a1.2.png", "a1.15.png"], ["a1.2.png", "a1.15.png"], "whole numbers"),
        (["1.2.3.png", "1.2.15.png"], ["1.2.3.png", "1.2.15.png"], "whole numbers"),
        # Evenly spaced by value: times; else counters.
        (
            ["t0.5s.png", "t0.25s.png", "t1s.png", "t0.75s.png"],
            ["t0.25s.png", "t0.5s.png", "t0.75s.png", "t1s.png"],
            "fractions",
        ),
        (["a1.5.png", "a1.15.png", "a1.25.png"], ["a1.5.png", "a1.15.png", "a1.25.png"], "whole numbers"),
    ],
)
def test_all_names_decide_the_reading_of_a_point_with_a_warning(
    names: list[str], order: list[str], reading: str
) -> None:
    got, (message,) = in_order(names)
    assert got == order
    assert message.startswith("folder: ")
    assert reading in message
    first, second = (order.index(name) for name in order if f"{name} " in f"{message} ")
    assert first < second


@pytest.mark.parametrize(
    "names",
    [
        ["7.017.png", "7.050.png", "7.150.png"],  # of one length: both readings are one
        ["shot.0002.png", "shot.0010.png"],
        ["2.png", "10.png", "b.png"],
        ["7.5.png"],
    ],
)
def test_no_warning_if_both_readings_give_one_order(names: list[str]) -> None:
    assert in_order(names[::-1]) == (names, [])
