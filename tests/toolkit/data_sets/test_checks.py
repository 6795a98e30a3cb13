"""Checks of benchmarks that lack files or have malformed ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.toolkit.datasets.benchmarks import UNUSABLE
from mmdistill.toolkit.datasets.checks import (
    FEWER_IMAGES,
    MORE_IMAGES,
    NO_ATTRIBUTES,
    NOT_POSITIVE,
    OTHER_SIZE,
    UNEQUAL_IMAGES,
    CheckReport,
    check_benchmark,
)
from mmdistill.toolkit.images import write_image

FRAMES = 4


@pytest.fixture
def car(tmp_path: Path) -> Path:
    """A sequence of RGBT210 with which nothing is wrong."""
    folder = tmp_path / "RGBT210" / "car"
    for side in ("visible", "infrared"):
        for index in range(FRAMES):
            write_image(folder / side / f"{index:05d}{side[0]}.png", np.full((30, 40, 3), 9, np.uint8))
        (folder / f"{side}.txt").write_text("10,10,8,6\n" * FRAMES)
    (folder / "init.txt").write_text("10,10,8,6\n")
    return folder


def check(car: Path, **options: bool) -> tuple[CheckReport, list[str]]:
    checked = check_benchmark("rgbt210", car.parent, **options)
    assert checked.coverage is not None
    assert checked.coverage.summary.startswith(f"rgbt210: {checked.usable} of 210 sequences")
    return checked, [line for line in checked.data_issues.lines() if line != NO_ATTRIBUTES]


def remove(folder: Path, *indices: int) -> None:
    for index in indices:
        sorted(folder.iterdir())[index].unlink()


def test_a_whole_copy(car: Path) -> None:
    checked, messages = check(car, decode=True)
    assert (checked.sequences, checked.usable, messages) == (1, 1, [])


def test_numbers_of_images(car: Path) -> None:
    remove(car / "infrared", -1)
    assert check(car)[1] == [f"{UNEQUAL_IMAGES}: 1", "  car: 4 and 3"]
    remove(car / "visible", -1)
    checked, messages = check(car)
    assert messages == [f"{FEWER_IMAGES}: 1", "  car: 3 for 4"]
    assert checked.usable == 1
    remove(car / "visible", -1)
    remove(car / "infrared", -1)
    checked, messages = check(car)
    assert messages == [f"{UNUSABLE}: 1", "  sequence car: expected an image for each of 4 boxes, got 2"]
    assert (checked.sequences, checked.usable) == (1, 0)


def test_more_images_than_boxes(car: Path) -> None:
    for side in ("visible", "infrared"):
        (car / f"{side}.txt").write_text("10,10,8,6\n" * (FRAMES - 2))
    checked, messages = check(car)
    assert messages == [f"{MORE_IMAGES}: 1", "  car: 4 for 2"]
    assert checked.usable == 1


def test_images_that_can_not_be_read(car: Path) -> None:
    broken = sorted((car / "infrared").iterdir())[2]
    whole = broken.read_bytes()
    broken.write_bytes(whole[:-9])
    assert check(car)[0].usable == 1  # only decoding tells
    checked, messages = check(car, decode=True)
    assert checked.usable == 0
    assert messages[1].startswith(f"  {broken}: the image is cut off")
    broken.write_bytes(b"")
    next((car / "visible").iterdir()).write_bytes(b"")
    checked, messages = check(car)
    assert checked.usable == 0
    assert messages[1].endswith("expected an image, the file is empty (and 1 more images)")


def test_another_size_boxes_at_the_border_and_a_start_outside(car: Path) -> None:
    for path in (car / "infrared").iterdir():
        write_image(path, np.full((15, 20, 3), 9, np.uint8))
    (car / "visible.txt").write_text("10,10,8,6\n0,10,8,6\n10,10,0,6\nnan,nan,nan,nan\n")
    checked, messages = check(car)
    assert messages[messages.index(f"{OTHER_SIZE}: 1") + 1] == "  car: 20 x 15 for 40 x 30"
    assert messages[messages.index(f"{NOT_POSITIVE}: 1") + 1] == "  car: 2 of 4"
    assert checked.usable == 1
    (car / "init.txt").write_text("100,100,8,6\n")
    checked, messages = check(car)
    assert checked.usable == 0
    assert "sequence car: the initial box 100,100,8,6 lies outside the image of 40 x 30 pixels" in messages[-1]


def test_annotations_alone_can_be_checked(car: Path) -> None:
    remove(car / "infrared", *[0] * FRAMES)
    assert check(car, images=False)[0].usable == 1
    assert check(car)[0].usable == 0


def test_vot_style_folders(tmp_path: Path) -> None:
    for name, frames in (("a", 3), ("b", 2)):
        for index in range(frames):
            write_image(tmp_path / name / f"{index}.png", np.full((30, 40, 3), 9, np.uint8))
        (tmp_path / name / "groundtruth.txt").write_text("10,10,8,6\n" * 3)
    checked = check_benchmark("vot", tmp_path)
    assert (checked.sequences, checked.usable) == (2, 1)
    assert "at most a box for each of 2 frames, got 3" in checked.data_issues.lines()[-1]


@pytest.mark.parametrize(
    ("name", "subfolder", "sequences"),
    [("lasher", "LasHeR245", 245), ("rgbt234", "RGBT234", 234), ("gtot", "GTOT", 50)],
)
def test_the_real_annotations(metrics: Path, name: str, subfolder: str, sequences: int) -> None:
    checked = check_benchmark(name, metrics / subfolder, images=False)  # type: ignore[arg-type]
    assert (checked.sequences, checked.usable) == (sequences, sequences)
    messages = "\n".join(checked.data_issues.lines())
    shown = "afterrain: 144,53,24,45; first of visible.txt 144,53,10,80, of infrared.txt 147,53,24,45"
    assert (shown in messages) == (name == "rgbt234")
    assert "are used" not in messages
