"""A folder of images as frames.

The pages of a TIFF file as frames.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.image_headers import ImageHeader
from mmdistill.toolkit.images import Pixels, decode, is_thermal, read_pixels, to_rgb
from mmdistill.toolkit.io import open_regular_file
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.tiff_pages import TIFF_STARTS, read_pages, select_page
from mmdistill.toolkit.video.pairing import NAMED_RATE_TOLERANCE, VIDEO_RATE_TOLERANCE, Times, name_times, rate_of
from mmdistill.toolkit.video.thermal_range import SteadyRange


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


class TiffStack:
    """The pages of a TIFF file, as thermal cameras record them; thermal pages share a range, see ``SteadyRange``.

    A file that is cut off has a last frame that can't be read.

    Attributes:
        path: the file.
        shortfall: what the file lacks if it is cut off; else empty.
        available: how many pages can be read.

    Raises:
        DataError: no such file, no TIFF, or a single page.
    """

    rate: float | None = None
    rate_tolerance = VIDEO_RATE_TOLERANCE
    named_by_time = False

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with open_regular_file(self.path) as file:
            # Private to this process: the file stays as it is when a page is selected.
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        pages, cut = read_pages(self._data)
        self._pages = [page for page in pages if page.end <= len(self._data)]
        cut = cut or len(self._pages) < len(pages)
        self.available = len(self._pages)
        self.shortfall = f"{self.path}: the TIFF file is cut off after page {self.available}" if cut else ""
        if len(pages) + cut < 2:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")
        self._range = SteadyRange()

    def __len__(self) -> int:
        return self.available + bool(self.shortfall)

    def times(self) -> Times | None:
        """Return None: pages have no times."""
        return None

    def frame(self, index: int) -> Image:
        """Return page ``index`` as ``(H, W, 3)`` RGB; one that can't be read raises DataError."""
        pixels = self._pixels(index)
        if not is_thermal(pixels):
            return to_rgb(pixels)
        for each in self._range.unmeasured(index):
            self._range.measure(each, pixels if each == index else self._readable(each))
        return to_rgb(pixels, self._range.at(index, pixels))

    def _pixels(self, index: int) -> Pixels:
        if index >= self.available:
            raise DataError(self.shortfall)
        page = self._pages[index]
        select_page(self._data, page.directory)
        header = ImageHeader("TIFF", page.width, page.height, white_is_zero=page.white_is_zero, problem=page.problem)
        return decode(self._data, header, f"{self.path}: page {index + 1}")

    def _readable(self, index: int) -> Pixels | None:
        try:
            return self._pixels(index)
        except DataError:
            return None


def is_tiff(path: Path) -> bool:
    """Whether a regular file begins as TIFF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in TIFF_STARTS
