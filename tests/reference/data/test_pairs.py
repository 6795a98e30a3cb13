from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.data.images import write_image
from mmdistill.reference.data.pairs import PairFolder
from mmdistill.reference.errors import DataError


def write_pairs(root: Path, rgb: list[int], tir: list[int], places: tuple[str, str] = ("rgb", "tir")) -> Path:
    for place, numbers, offset in zip(places, (rgb, tir), (0, 100), strict=True):
        for number in numbers:
            write_image(root / place / f"{number}.png", np.full((6, 8, 3), number + offset, np.uint8))
    return root


@pytest.mark.parametrize("places", [("rgb", "tir"), ("visible", "lwir")])
def test_pairs_of_the_same_name(tmp_path: Path, places: tuple[str, str]) -> None:
    pairs = PairFolder(write_pairs(tmp_path, [10, 9, 1], [1, 9, 10], places))
    assert len(pairs) == 3
    assert pairs.names == ["1.png", "9.png", "10.png"]
    rgb, tir = pairs.pair(2)
    assert (rgb[0, 0, 0], tir[0, 0, 0]) == (10, 110)


def test_slices_are_views(tmp_path: Path) -> None:
    pairs = PairFolder(write_pairs(tmp_path, [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]))
    train, held_out = pairs[:-2], pairs[-2:]
    assert train.names + held_out.names == pairs.names
    assert len(held_out) == 2
    assert held_out.pair(0).rgb[0, 0, 0] == 4
    assert train[1:].pair(0).tir[0, 0, 0] == 102


def test_a_name_without_partner_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rgb/7\.png: has no partner of the same name in .*tir"):
        PairFolder(write_pairs(tmp_path / "a", [1, 7], [1]))
    with pytest.raises(DataError, match=r"tir/8\.png: has no partner of the same name in .*rgb"):
        PairFolder(write_pairs(tmp_path / "b", [1], [1, 8]))


def test_missing_folders_and_unequal_sizes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected two folders of images, rgb and tir"):
        PairFolder(tmp_path)
    root = write_pairs(tmp_path, [1], [1])
    write_image(root / "tir" / "1.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"rgb/1\.png: expected the size of .*tir/1\.png, got 8 x 6 and 9 x 6"):
        PairFolder(root).pair(0)


def test_real_pairs(real_data: Path) -> None:
    pairs = PairFolder(real_data / "pairs" / "RoadScene")
    assert len(pairs) == 160
    assert (len(pairs[:-30]), len(pairs[-30:])) == (130, 30)
    rgb, tir = pairs.pair(0)
    assert rgb.shape == tir.shape == (329, 500, 3)
