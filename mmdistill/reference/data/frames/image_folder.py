"""A folder of images as frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmdistill.reference.data.frames.steady_range import SteadyRange
from mmdistill.reference.data.image_files import list_images
from mmdistill.reference.data.images import Pixels, is_thermal, read_pixels, to_rgb
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.errors import DataError


class ImageFolder:
    """The images of a folder; those of 16 bits share a range, see ``SteadyRange``.

    Args:
        folder: where they lie; frames are in natural order of their names.
        files: the frames, if they are not simply all of the folder's images; None for a frame without an image.

    Raises:
        DataError: no such folder, or no image in it.
    """

    def __init__(self, folder: str | Path, files: Sequence[Path | None] | None = None) -> None:
        self.files: Sequence[Path | None] = list_images(folder) if files is None else files
        self._range = SteadyRange()

    def __len__(self) -> int:
        return len(self.files)

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
