from __future__ import annotations

import logging
from pathlib import Path

import pytest

from mmdistill.toolkit.image_files import natural_sort_key
from mmdistill.toolkit.video.pairing import pair_files


def names(folder: str, stems: list[str]) -> list[Path]:
    return sorted((Path(folder) / f"{stem}.png" for stem in stems), key=lambda path: natural_sort_key(path.name))


def numbered(folder: str, numbers: list[int], form: str = "{:04d}") -> list[Path]:
    return names(folder, [form.format(number) for number in numbers])


def pairs(rgb: list[Path], tir: list[Path]) -> list[tuple[str | None, str | None]]:
    paired = pair_files(rgb, tir)
    assert len(paired.rgb) == len(paired.tir)
    return [(a and a.stem, b and b.stem) for a, b in zip(*paired, strict=True)]


def test_lost_files_are_paired_by_number_and_named(caplog: pytest.LogCaptureFixture) -> None:
    rgb = numbered("a", [n for n in range(1, 101) if n != 3])
    tir = numbered("b", [n for n in range(1, 101) if n != 57], "i{}")
    with caplog.at_level(logging.WARNING):
        found = pairs(rgb, tir)
    assert len(found) == 100
    assert found[2] == (None, "i3")
    assert found[56] == ("0057", None)
    assert all(a is None or b is None or int(a) == int(b[1:]) for a, b in found)
    rule = "the two are paired by the numbers in their names"
    assert [record.getMessage() for record in caplog.records] == [
        f"a: 1 lost (number 3) that b has; {rule}",
        f"b: 1 lost (number 57) that a has; {rule}",
    ]


@pytest.mark.parametrize(
    ("rgb", "tir"),
    [
        (numbered("a", list(range(1, 9))), numbered("b", list(range(8)))),  # an offset is no loss
        (numbered("a", list(range(1, 9))), numbered("b", list(range(1, 9)))),
        (numbered("a", [100, 133, 166, 200]), numbered("b", [100, 134, 167, 201])),  # time stamps
        (numbered("a", [1, 2, 3]), names("b", ["left", "middle", "right"])),
        (names("a", ["1_1", "1_2", "2_1"]), names("b", ["1_1", "1_2", "3_1"])),  # which number?
        (names("a", ["1", "01", "2"]), names("b", ["1", "2", "3"])),  # a number twice
    ],
)
def test_any_other_names_are_paired_by_order(
    rgb: list[Path], tir: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    assert pairs(rgb, tir) == [(a.stem, b.stem) for a, b in zip(rgb, tir, strict=True)]
    assert not caplog.records


def test_a_folder_that_ends_early_has_lost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    paired = pair_files(numbered("a", [1, 2, 3, 4]), numbered("b", [1, 2, 3]))
    assert [len(files) for files in paired] == [4, 3]
    assert not caplog.records


def test_half_the_frame_rate_is_paired_by_number() -> None:
    found = pairs(numbered("a", list(range(1, 12))), numbered("b", list(range(1, 12, 2))))
    assert [b for _, b in found] == [f"{n:04d}" if n % 2 else None for n in range(1, 12)]


def test_as_many_files_of_another_step_are_paired_by_order(caplog: pytest.LogCaptureFixture) -> None:
    found = pairs(numbered("a", list(range(0, 20, 2))), numbered("b", list(range(10))))
    assert found == [(f"{2 * n:04d}", f"{n:04d}") for n in range(10)]
    assert not caplog.records


def test_long_lists_of_lost_numbers_are_cut(caplog: pytest.LogCaptureFixture) -> None:
    pair_files(numbered("a", list(range(1, 20))), numbered("b", [1, *range(9, 20)]))
    assert "b: 7 lost (number 2, 3, 4, 5, 6, ...) that a has" in caplog.text


def test_times_of_different_precision_are_one_number(caplog: pytest.LogCaptureFixture) -> None:
    rgb = names("a", ["1628087349.05", "1628087349.1", "1628087349.15", "1628087349.2"])
    tir = names("b", ["1628087349.050", "1628087349.100", "1628087349.200"])
    assert [b for _, b in pairs(rgb, tir)] == ["1628087349.050", "1628087349.100", None, "1628087349.200"]
    assert "number 1628087349.15" in caplog.text
