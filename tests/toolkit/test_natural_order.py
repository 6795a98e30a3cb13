from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.toolkit.image_files import reads_as_decimals, sort_naturally


def in_order(names: list[str]) -> tuple[list[str], list[str]]:
    said: list[str] = []
    return sort_naturally(names, str, "folder", said.append), said


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
def test_the_reading_of_a_point_is_decided_by_all_names_and_said(
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
def test_where_both_readings_give_one_order_nothing_is_said(names: list[str]) -> None:
    assert in_order(names[::-1]) == (names, [])
