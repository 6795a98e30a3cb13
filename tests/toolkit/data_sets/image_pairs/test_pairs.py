from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from mmdistill import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.datasets.image_pairs.pairs import PairCache
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.sequence import Image


def gray(value: int, width: int = 8, height: int = 6) -> Image:
    return np.full((height, width, 3), value, np.uint8)


def write_pairs(root: Path, rgb: list[int], tir: list[int], subfolders: tuple[str, str] = ("rgb", "tir")) -> Path:
    for subfolder, numbers, offset in zip(subfolders, (rgb, tir), (0, 100), strict=True):
        for number in numbers:
            write_image(root / subfolder / f"{number}.png", gray(number + offset))
    return root


def values(pairs: Pairs) -> list[tuple[int, int]]:
    return [(int(rgb[0, 0, 0]), int(tir[0, 0, 0])) for rgb, tir in map(pairs.pair, range(len(pairs)))]


@pytest.mark.parametrize("subfolders", [("rgb", "tir"), ("visible", "lwir")])
def test_pairs_of_the_same_name(tmp_path: Path, subfolders: tuple[str, str]) -> None:
    pairs = open_pairs(write_pairs(tmp_path, [10, 9, 1], [1, 9, 10], subfolders))
    assert len(pairs) == 3
    assert pairs.names == ["1.png", "9.png", "10.png"]
    assert values(pairs) == [(1, 101), (9, 109), (10, 110)]


def test_unusual_names(tmp_path: Path) -> None:
    names = ["it's `odd`.png", "Ü 2.png", "ü 10.PNG", "FLIR_00002 (1).jpg"]
    for side in ("visible", "infrared"):
        for name in names:
            write_image(tmp_path / side / name, gray(50))
        (tmp_path / side / "Thumbs.db").touch()
        (tmp_path / side / ".hidden.png").touch()
    pairs = open_pairs(tmp_path)
    assert sorted(pairs.names) == sorted(names)
    assert values(pairs) == [(50, 50)] * 4


def test_the_tree_of_kaist(tmp_path: Path) -> None:
    for subfolder, numbers in (("set00/V000", [1, 2]), ("set00/V010", [3]), ("set00/V002", [4]), ("set10/V000", [5])):
        write_pairs(tmp_path / subfolder, numbers, numbers, ("visible", "lwir"))
    pairs = open_pairs(tmp_path)
    assert pairs.names == [
        "set00/V000/1.png",
        "set00/V000/2.png",
        "set00/V002/4.png",
        "set00/V010/3.png",
        "set10/V000/5.png",
    ]
    assert values(pairs) == [(1, 101), (2, 102), (4, 104), (3, 103), (5, 105)]
    assert values(open_pairs(tmp_path / "set10")) == [(5, 105)]
    assert values(open_pairs(tmp_path / "set10" / "V000")) == [(5, 105)]
    for image in (tmp_path / "set10" / "V000" / "lwir").iterdir():
        image.unlink()
    (tmp_path / "set10" / "V000" / "lwir").rmdir()
    pairs = open_pairs(tmp_path, on_broken="skip")
    assert len(pairs) == 4
    (problem,) = pairs.problems
    assert "visible: expected the TIR folder beside it" in problem


def test_slices_are_views(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, [1, 2, 3, 4, 5], [1, 2, 3, 4, 5]))
    train, held_out = pairs[:-2], pairs[-2:]
    assert train.names + held_out.names == pairs.names
    assert len(held_out) == 2
    assert held_out.pair(0).rgb[0, 0, 0] == 4
    assert train[1:].pair(0).tir[0, 0, 0] == 102


def test_a_name_without_counterpart_is_named_or_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rgb/7\.png: expected a TIR image of the same name in .*tir"):
        open_pairs(write_pairs(tmp_path / "a", [1, 7], [1]))
    with pytest.raises(DataError, match=r"tir/8\.png: expected an RGB image of the same name in .*rgb"):
        open_pairs(write_pairs(tmp_path / "b", [1], [1, 8]))
    pairs = open_pairs(write_pairs(tmp_path / "c", [1, 7, 9], [1, 8, 9]), on_broken="skip")
    assert pairs.names == ["1.png", "9.png"]
    assert [problem.split(":")[0] for problem in pairs.problems] == [
        str(tmp_path / "c" / "rgb" / "7.png"),
        str(tmp_path / "c" / "tir" / "8.png"),
    ]
    with pytest.raises(DataError, match=r"1 RGB images \(7\.png\) and 1 TIR images \(8\.png\)"):
        open_pairs(write_pairs(tmp_path / "d", [7], [8]), on_broken="skip")


def test_missing_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected images \(.*\.png.*\), none"):
        open_pairs(tmp_path)
    with pytest.raises(DataError, match="none: expected a folder of pairs, there is none"):
        open_pairs(tmp_path / "none")


def test_tir_is_resized_to_rgb_with_a_warning_for_each_size(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_pairs(tmp_path, list(range(4)), [0])
    for number, width in ((1, 12), (2, 12), (3, 16)):
        write_image(tmp_path / "tir" / f"{number}.png", gray(100 + number, width, 6))
    pairs = open_pairs(tmp_path)
    assert values(pairs) == [(number, 100 + number) for number in range(4)]
    assert all(pairs.pair(index).tir.shape == (6, 8, 3) for index in range(4))
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert str(tmp_path) in messages[0]
    assert "12 x 6 (2:1)" in messages[0]
    assert "8 x 6 (4:3)" in messages[0]
    assert pickle.loads(pickle.dumps(pairs)).pair(1).tir.shape == (6, 8, 3)
    assert len(caplog.records) == 2  # another process says no more


def test_pairs_named_by_times_are_in_their_order(tmp_path: Path) -> None:
    names = ["1628087349.017", "1628087349.05", "1628087349.1", "1628087350"]
    for side in ("rgb", "tir"):
        for name in names:
            write_image(tmp_path / side / f"{name}.png", gray(0))
    assert open_pairs(tmp_path).names == [f"{name}.png" for name in names]


def test_a_small_image_is_refused_with_its_own_size(tmp_path: Path) -> None:
    write_image(tmp_path / "rgb" / "1.png", gray(0, 20, 12))
    write_image(tmp_path / "tir" / "1.png", gray(0, 10, 8))
    pairs = open_pairs(tmp_path)
    for _ in range(2):  # read, and kept
        with pytest.raises(DataError, match=r"tir/1\.png: expected an image of at least 9 x 9 pixels, got 10 x 8"):
            pairs.large_pair(0)
        assert pairs.pair(0).tir.shape == (12, 20, 3)


class Counted:
    """Reads pairs of 288 bytes and counts how often."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def __call__(self, cache: PairCache, name: str) -> Pair[Image]:
        def read() -> Pair[Image]:
            self.read.append(name)
            return Pair(gray(0), gray(1))

        return cache.get(name, read)


def test_the_least_recently_used_pair_goes_first() -> None:
    cache, get = PairCache(600), Counted()  # two pairs
    for name in "ababacab":
        get(cache, name)
    assert "".join(get.read) == "abcb"
    assert get(cache, "b") is get(cache, "b")
    with pytest.raises(ValueError, match="read-only"):
        get(cache, "b").rgb[:] = 0


def test_a_pair_larger_than_the_cache_is_not_kept_and_another_process_starts_empty() -> None:
    cache, get = PairCache(100), Counted()
    for name in "aa":
        get(cache, name)
    assert "".join(get.read) == "aa"
    cache = PairCache(600)
    get(cache, "c")
    get(pickle.loads(pickle.dumps(cache)), "c")
    assert "".join(get.read) == "aacc"


def test_slices_share_the_cache(tmp_path: Path) -> None:
    pairs = open_pairs(write_pairs(tmp_path, [1, 2], [1, 2]))
    assert pairs.pair(1) is pairs[1:].pair(0)
    assert pickle.loads(pickle.dumps(pairs)).pair(1).rgb[0, 0, 0] == 2


def test_real_pairs(real_data: Path) -> None:
    pairs = open_pairs(real_data / "pairs" / "RoadScene")
    assert len(pairs) == 160
    assert (len(pairs[:-30]), len(pairs[-30:])) == (130, 30)
    rgb, tir = pairs.pair(0)
    assert rgb.shape == tir.shape == (329, 500, 3)
