"""Reads frame pairs: the source of each modality, the state of each image, and TIR at RGB's size."""

from __future__ import annotations

import logging
from collections.abc import Callable
from fractions import Fraction
from typing import Literal, NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment, Mask
from mmdistill.toolkit.alignment.coverage import covers_target
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image

logger = logging.getLogger(__name__)

State = Literal["seen", "absent", "missing", "black", "broken", "uncovered"]
"""``seen``: an image to track on. ``absent``: the video has no such modality. ``missing``: this frame has no such
image. ``black``: the image has one color. ``broken``: the image can't be read. ``uncovered``: TIR's view does not
contain the target."""

OnBroken = Literal["stop", "skip"]
"""What to do with an unreadable image: raise its error, or continue without the image."""

Times = NDArray[np.float64]
"""``(T,)``, seconds, ascending."""

MAX_UNIFORM_DIFFERENCE = 2
"""Maximum difference of pixels in an image of one color, of 256 levels; compression causes it."""

MAX_ASPECT_DIFFERENCE = 0.02
"""Relative difference of two aspect ratios that is rounding: 1280 x 720 and 854 x 480 are both 16:9."""

MAX_SIZE_WARNINGS = 5
"""How many different sizes of TIR are warned of."""


class FrameSource(Protocol):
    """The recorded frames of one modality."""

    @property
    def rate(self) -> float | None:
        """Frames per second, as the recording states; None if it does not."""
        ...

    @property
    def rate_tolerance(self) -> float:
        """The possible relative error of the rate."""
        ...

    @property
    def named_by_time(self) -> bool:
        """Whether the files are named by times."""
        ...

    @property
    def truncation(self) -> str:
        """A description of the missing frames if the recording ends before its stated length; else empty."""
        ...

    @property
    def available(self) -> int:
        """Number of frames before a truncation; all frames if there is none."""
        ...

    def times(self) -> Times | None:
        """Return the time of each frame ``(T,)``, seconds, ascending; None if unknown."""
        ...

    def time(self, index: int) -> float | None:
        """Return the time of frame ``index`` (from 0), which was read last, in seconds; None if unknown."""
        ...

    def __len__(self) -> int:
        """Return the stated number of frames."""
        ...

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB, or None if it is missing; DataError if broken."""
        ...


class InputWarnings(list[str]):
    """Warnings about the inputs of a video: each is logged once, and kept for the summary."""

    def __call__(self, warning: str) -> None:
        """Add a warning."""
        if warning not in self:
            self.append(warning)
            logger.warning("%s", warning)


class ModalityReading(NamedTuple):
    """The result of reading one modality of a frame.

    Attributes:
        image: ``(H, W, 3)``, or None.
        state: whether the image can be tracked on.
        problem: the error of a broken image, with the file's name; else empty.
    """

    image: Image | None
    state: State
    problem: str = ""


class Reading(NamedTuple):
    """The result of reading one frame pair.

    Attributes:
        images: both images, of one size. None if a modality is absent, missing or broken, and if it is black while the
            other one is seen.
        states: the state of each modality.
        sizes: width and height of each image before resizing, pixels; None if there is no image.
        problem: the errors of broken images, with the files' names; else empty.
        time: seconds: from the start of a video, since the first frame of a camera, or as in the image's name; of RGB
            if the video has it. None if unknown.
        mask: the pixels that TIR covers, ``(H, W)``; None without an alignment.
    """

    images: FramePair
    states: Pair[State]
    sizes: Pair[tuple[int, int] | None]
    problem: str = ""
    time: float | None = None
    mask: Mask | None = None

    @property
    def usable(self) -> bool:
        """Whether an image can be tracked on."""
        return "seen" in self.states


def drop_uncovered(reading: Reading, box: ArrayLike) -> Reading:
    """Return a reading without TIR if TIR does not cover the target.

    Args:
        reading: the frame.
        box: the target's last box ``(4,)``, ``x y w h`` in pixels.
    """
    if reading.mask is None or reading.states.tir != "seen" or covers_target(reading.mask, box):
        return reading
    return reading._replace(images=Pair(reading.images.rgb, None), states=Pair(reading.states.rgb, "uncovered"))


def read_modality(read: Callable[[], Image | None] | None, on_broken: OnBroken) -> ModalityReading:
    """Read one modality of a frame.

    Args:
        read: returns the image, or None if it is missing; None if the video has no such modality.
        on_broken: whether an unreadable image raises its error.

    Raises:
        DataError: the image can't be read and ``on_broken`` is ``stop``.
    """
    if read is None:
        return ModalityReading(None, "absent")
    try:
        image = read()
    except DataError as error:
        if on_broken == "stop":
            raise
        return ModalityReading(None, "broken", str(error))
    if image is None:
        return ModalityReading(None, "missing")
    return ModalityReading(image, "black" if is_uniform(image) else "seen")


def combine_modalities(
    modalities: Pair[ModalityReading], resize: Callable[[FramePair], FramePair], mask: Mask | None = None
) -> Reading:
    """Return both modalities as one reading; a black image is dropped if the other one is seen.

    Args:
        modalities: RGB and TIR.
        resize: brings both images to one size.
        mask: see ``Reading``.
    """
    images: FramePair = Pair(*(each.image for each in modalities))
    sizes = Pair(*(None if image is None else (image.shape[1], image.shape[0]) for image in images))
    states: Pair[State] = Pair(*(each.state for each in modalities))
    problem = "; ".join(each.problem for each in modalities if each.problem)
    images = resize(images)
    if "seen" in states:
        images = Pair(*(None if state == "black" else image for image, state in zip(images, states, strict=True)))
    return Reading(images, states, sizes, problem, mask=mask)


def is_uniform(image: Image) -> bool:
    """Return whether an image ``(H, W, 3)`` has one color, as with a covered lens or a lost signal."""
    # The middle row alone decides for nearly every image.
    middle = len(image) // 2
    return _has_one_color(image[middle : middle + 1]) and _has_one_color(image)


def _has_one_color(image: Image) -> bool:
    low, high = image.min(axis=(0, 1)).astype(np.int64), image.max(axis=(0, 1))
    return bool((high - low <= MAX_UNIFORM_DIFFERENCE).all())


class SizeCheck:
    """Refuses an image of another size than the first, because box positions would change their meaning.

    Args:
        where: name of the source, for errors.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._size: tuple[int, int] | None = None

    def __call__(self, image: Image | None, number: int) -> Image | None:
        """Return the image.

        Args:
            image: ``(H, W, 3)``, or None.
            number: number of the frame from 1, for errors.

        Raises:
            DataError: the image has another size than the first one.
        """
        if image is None:
            return None
        size = image.shape[1], image.shape[0]
        self._size = self._size or size
        if size != self._size:
            first, this = (f"{width} x {height}" for width, height in (self._size, size))
            raise DataError(f"{self._where}: frame {number} is {this}, expected the first frame's size of {first}")
        return image


class TirResizer:
    """Warps TIR images to RGB's frame, or resizes them to RGB's size with one warning for each size of TIR.

    Args:
        where: name of the TIR source, for errors and warnings.
        rgb_size: returns the width and height of RGB frames, for frames without RGB; None if there is no RGB.
        warn: receives the warnings.
        alignment: how the cameras agree; without it TIR is resized.

    Attributes:
        mask: the pixels that TIR covers, ``(H, W)``; None without an alignment.
    """

    def __init__(
        self,
        where: str,
        rgb_size: Callable[[], tuple[int, int]] | None,
        warn: Callable[[str], object] = logger.warning,
        alignment: Alignment | None = None,
    ) -> None:
        self._where, self._rgb_size, self._warn, self._alignment = where, rgb_size, warn, alignment
        self.mask = None if alignment is None else alignment.mask
        self._warned: set[tuple[int, int]] = set()

    def __call__(self, frame: FramePair) -> FramePair:
        """Return the frame pair with TIR in RGB's frame.

        Raises:
            DataError: an image has another size than the alignment's.
        """
        if frame.tir is None or self._rgb_size is None:
            return frame
        width, height = self._rgb_size() if frame.rgb is None else frame.rgb.shape[1::-1]
        if self._alignment is not None:
            self._alignment.check_size("TIR", (frame.tir.shape[1], frame.tir.shape[0]), self._where)
            self._alignment.check_size("RGB", (width, height))
            return Pair(frame.rgb, self._alignment.warp(frame.tir))
        return Pair(frame.rgb, self._resize(frame.tir, width, height))

    def _resize(self, tir: Image, width: int, height: int) -> Image:
        if tir.shape[:2] == (height, width):
            return tir
        size = tir.shape[1], tir.shape[0]
        if size not in self._warned and len(self._warned) < MAX_SIZE_WARNINGS:
            resized = f"TIR of {size[0]} x {size[1]} is resized to RGB's {width} x {height}"
            self._warn(f"{self._where}: {aspect_warning((width, height), size) or resized}")
            self._warned.add(size)
        return np.asarray(cv2.resize(tir, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def aspect_warning(rgb_size: tuple[int, int], tir_size: tuple[int, int]) -> str | None:
    """Return a warning if resizing TIR to RGB's size changes its aspect ratio, else None.

    >>> print(aspect_warning((1280, 720), (640, 480)))
    TIR of 640 x 480 (4:3) is stretched to RGB's 1280 x 720 (16:9): positions may not match; try mmdistill align

    Args:
        rgb_size: width and height of the RGB image, pixels.
        tir_size: width and height of the TIR image, pixels.
    """
    rgb_ratio, tir_ratio = (width / height for width, height in (rgb_size, tir_size))
    if abs(rgb_ratio / tir_ratio - 1) <= MAX_ASPECT_DIFFERENCE:
        return None
    rgb, tir = (f"{width} x {height} ({_format_aspect(width, height)})" for width, height in (rgb_size, tir_size))
    return f"TIR of {tir} is stretched to RGB's {rgb}: positions may not match; try mmdistill align"


def _format_aspect(width: int, height: int) -> str:
    """Return an aspect ratio such as ``16:9``."""
    ratio = Fraction(width, height)
    simple = ratio.limit_denominator(16)
    if simple and abs(simple / ratio - 1) < Fraction(1, 200) and simple.numerator <= 64:
        return f"{simple.numerator}:{simple.denominator}"
    return f"{width / height:.4g}:1"
