"""A folder of images as frames."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mmdistill.reference.data.frames.steady_range import SteadyRange
from mmdistill.reference.data.frames.times import NAMED_RATE_TOLERANCE, Times, name_times, rate_of
from mmdistill.reference.data.image_files import list_images
from mmdistill.reference.data.images import Pixels, is_thermal, read_pixels, to_rgb
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


class ImageFolder:
    """The images of a folder; thermal ones share a range, see ``SteadyRange``.

    Args:
        folder: where they lie; frames are in natural order of their names.
        files: the frames, if they are not simply all of the folder's images; None for a frame without an image.

    Raises:
        DataError: no such folder, or no image in it.
    """

    rate_tolerance = NAMED_RATE_TOLERANCE
    shortfall = ""

    def __init__(self, folder: str | Path, files: Sequence[Path | None] | None = None) -> None:
        self.files: Sequence[Path | None] = list_images(folder) if files is None else files
        self._range = SteadyRange()

    def __len__(self) -> int:
        return len(self.files)

    @property
    def available(self) -> int:
        """How many frames there are."""
        return len(self.files)

    @property
    def named_by_time(self) -> bool:
        """Whether the images are named by times and nothing else."""
        first = self.files[0] if self.files else None
        return first is not None and first.name[0].isdecimal() and self._times is not None

    @property
    def rate(self) -> float | None:
        """Frames per second, by the times that the images are named by; None if they are not."""
        return rate_of(self._times) if self.named_by_time else None

    def times(self) -> Times | None:
        """Return the times that the images are named by ``(T,)``, seconds; None if they are not."""
        return self._times

    @cached_property
    def _times(self) -> Times | None:
        first = self.files[0] if self.files else None
        if first is None or name_times([first.stem]) is None:  # as of most folders
            return None
        stems = [None if file is None else file.stem for file in self.files]
        return None if None in stems else name_times([stem for stem in stems if stem is not None])

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` as ``(H, W, 3)`` RGB, or None; a file that is no image raises DataError."""
        pixels = self._pixels(index)
        if pixels is None:
            return None
        if not is_thermal(pixels):
            return to_rgb(pixels)
        for each in self._range.unmeasured(index):
            self._range.measure(each, pixels if each == index else self._readable(each))
        return to_rgb(pixels, self._range.at(index, pixels))

    def _pixels(self, index: int) -> Pixels | None:
        file = self.files[index]
        return None if file is None else read_pixels(file)

    def _readable(self, index: int) -> Pixels | None:
        try:
            return self._pixels(index)
        except DataError:
            return None
