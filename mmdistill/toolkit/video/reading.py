"""What came of reading one frame: its images, and for each modality whether it can be tracked on.

What the frames of one modality are, wherever they are recorded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image

logger = logging.getLogger(__name__)

State = Literal["seen", "absent", "missing", "black", "broken"]
"""``seen``: an image to track on. ``absent``: the video has no such modality. ``missing``: this frame has no such
image. ``black``: the image shows nothing. ``broken``: it cannot be read."""

OnBroken = Literal["stop", "skip"]
"""What an unreadable image does: end the video with an error, or go on without that image."""

FLAT = 2
"""Levels (of 256) by which the pixels of a black image may differ: what compression makes of a constant."""


class InputWarnings(list[str]):
    """What a user must know about the inputs of a video: each warning is logged once, and kept for the summary."""

    def __call__(self, warning: str) -> None:
        """Take a warning."""
        if warning not in self:
            self.append(warning)
            logger.warning("%s", warning)


class Look(NamedTuple):
    """One modality of a frame.

    Attributes:
        image: ``(H, W, 3)``, or None.
        state: whether it can be tracked on.
        problem: why it cannot be read, with the name of the file; else empty.
    """

    image: Image | None
    state: State
    problem: str = ""


class Reading(NamedTuple):
    """One frame.

    Attributes:
        images: both images, of one size. None where a modality is absent, missing or broken; also where it is black and
            the other one shows something, so that the tracker looks there.
        states: what each modality is.
        sizes: each image's width and height as it came, pixels; None where there is none.
        problem: why images cannot be read, with the names of the files; else empty.
    """

    images: FramePair
    states: Pair[State]
    sizes: Pair[tuple[int, int] | None]
    problem: str = ""

    @property
    def usable(self) -> bool:
        """Whether any image shows something."""
        return "seen" in self.states


def look(read: Callable[[], Image | None] | None, on_broken: OnBroken) -> Look:
    """Read one modality of a frame.

    Args:
        read: returns the image, or None where this frame has none; None if the video has no such modality.
        on_broken: what an image that cannot be read does.

    Raises:
        DataError: the image cannot be read, and that is to be the end.
    """
    if read is None:
        return Look(None, "absent")
    try:
        image = read()
    except DataError as error:
        if on_broken == "stop":
            raise
        return Look(None, "broken", str(error))
    if image is None:
        return Look(None, "missing")
    return Look(image, "black" if shows_nothing(image) else "seen")


def combine(looks: Pair[Look], at_one_size: Callable[[FramePair], FramePair]) -> Reading:
    """Return the frame that two looks make: a black image counts as none if the other shows something.

    Args:
        looks: both modalities.
        at_one_size: makes images one size.
    """
    images: FramePair = Pair(*(each.image for each in looks))
    sizes = Pair(*(None if image is None else (image.shape[1], image.shape[0]) for image in images))
    states: Pair[State] = Pair(*(each.state for each in looks))
    problem = "; ".join(each.problem for each in looks if each.problem)
    images = at_one_size(images)
    if "seen" in states:
        images = Pair(*(None if state == "black" else image for image, state in zip(images, states, strict=True)))
    return Reading(images, states, sizes, problem)


def shows_nothing(image: Image) -> bool:
    """Whether an image ``(H, W, 3)`` is of one color: a covered lens, a camera's shutter, a lost signal."""
    # Nearly every image is settled by its middle row.
    middle = len(image) // 2
    return _flat(image[middle : middle + 1]) and _flat(image)


def _flat(image: Image) -> bool:
    low, high = image.min(axis=(0, 1)).astype(np.int64), image.max(axis=(0, 1))
    return bool((high - low <= FLAT).all())


class Source(Protocol):
    """The recorded frames of one modality."""

    @property
    def rate(self) -> float | None:
        """Frames per second, as the recording states; None where it does not."""
        ...

    @property
    def rate_tolerance(self) -> float:
        """The relative error that this rate may have."""
        ...

    @property
    def named_by_time(self) -> bool:
        """Whether the files are named by times."""
        ...

    @property
    def shortfall(self) -> str:
        """What a recording lacks that ends earlier than it states; empty if it is whole."""
        ...

    @property
    def available(self) -> int:
        """How many frames there are before such an end; else all."""
        ...

    def times(self) -> NDArray[np.float64] | None:
        """Return when each frame was taken ``(T,)``, seconds, ascending; None if unknown."""
        ...

    def __len__(self) -> int:
        """Return the number of frames, as stated."""
        ...

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB, or None if there is none; DataError if it is broken."""
        ...
