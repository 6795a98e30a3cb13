"""Windows of images on the host, resized on the device: bit for bit the crops that the host cuts."""

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdistill import Pair
from mmdistill.reference.tracking.frame_inputs import TAP_UNITS, HostFrame, Windows, cut_crops
from mmdistill.reference.tracking.step import resize_windows

Area = tuple[int, int, int]

# Left, top, side: inside the image or outside it, wholly or in part; below the crop's size, and above twice of it.
areas = st.tuples(st.integers(-90, 120), st.integers(-90, 120), st.integers(2, 110))
image_sizes = st.tuples(st.integers(1, 90), st.integers(1, 90))


def frame_of(sizes: list[tuple[int, int]], given_areas: list[Area], size: int, modalities: int, seed: int) -> HostFrame:
    """A frame with images of noise; areas are x, y, side."""
    generator = np.random.default_rng(seed)
    images = [Pair(*generator.integers(0, 256, (2, height, width, 3), dtype=np.uint8)) for width, height in sizes]
    if modalities == 1:
        images = [Pair(pair.rgb, pair.rgb) for pair in images]
    count = len(sizes)
    slots = np.sort(generator.permutation(count + 2)[:count])
    zeros = np.zeros((count, 10, 4))
    return HostFrame(slots, images, np.array(given_areas), np.zeros(count, np.int64), zeros[:, 0], zeros, size)


def resized(frame: HostFrame, modalities: int, max_side: int, parts: int = 1) -> NDArray[np.int32]:
    """The crops as the device computes them."""
    videos = len(frame.slots)
    buffer = np.full((videos * modalities * max_side**2, 3), 77, dtype=np.uint8)
    windows = Windows(frame, modalities, max_side)
    for part in range(parts):
        windows.copy_to(buffer, range(part * videos // parts, (part + 1) * videos // parts))
    taps = windows.taps()
    assert (taps.weights.sum(axis=2) == TAP_UNITS).all()
    assert (buffer[windows.ends[-1] :] == 77).all()  # nothing is written behind the last window
    return resize_windows(torch.from_numpy(buffer), *map(torch.from_numpy, taps)).numpy()


@given(
    st.lists(st.tuples(image_sizes, areas), min_size=1, max_size=4),
    st.sampled_from([8, 16, 20, 31]),
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(0, 99),
)
@example([((30, 20), (-40, -40, 20))], 16, 2, 1, 0)  # beside the image
@example([((30, 20), (5, 5, 16)), ((30, 20), (5, 5, 32)), ((30, 20), (5, 5, 33))], 16, 2, 2, 0)  # one, two, above
@example([((1, 1), (0, 0, 2))], 8, 1, 1, 0)
@settings(max_examples=150)
def test_crops_are_those_of_the_host_bit_for_bit(
    videos: list[tuple[tuple[int, int], Area]], size: int, modalities: int, parts: int, seed: int
) -> None:
    frame = frame_of(*map(list, zip(*videos, strict=True)), size, modalities, seed)  # type: ignore[arg-type]
    got = resized(frame, modalities, 2 * size, parts)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, cut_crops(frame, modalities))


@pytest.mark.parametrize("side", [100, 250, 288, 289, 301, 431, 575, 576, 577, 900])
def test_crops_of_the_published_size(side: int) -> None:
    corners = [(100, 80), (-60, 200), (500, 300), (620, -30)]
    frame = frame_of([(640, 480)] * 4, [(x, y, side) for x, y in corners], 288, 2, side)
    np.testing.assert_array_equal(resized(frame, 2, 576, 4), cut_crops(frame, 2))


def test_windows_take_no_more_bytes_than_the_image_has() -> None:
    frame = frame_of([(40, 30), (40, 30)], [(-5, -5, 30), (10, 5, 12)], 16, 2, 0)
    windows = Windows(frame, 2, 32)
    assert windows.ends.tolist() == [2 * 25 * 25, 2 * 25 * 25 + 2 * 12 * 12]


def test_the_images_are_only_read() -> None:
    frame = frame_of([(40, 30)], [(-5, -5, 30)], 16, 2, 0)
    before = [image.copy() for image in frame.images[0]]
    resized(frame, 2, 32)
    for image, kept in zip(frame.images[0], before, strict=True):
        np.testing.assert_array_equal(image, kept)
