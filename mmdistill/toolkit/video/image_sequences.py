"""Reads folders of images and multi-page TIFF files as frames."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.image_headers import ImageHeader
from mmdistill.toolkit.images import decode, read_pixels, to_rgb
from mmdistill.toolkit.io import open_regular_file
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.thermal import Pixels, ThermalRange, is_thermal
from mmdistill.toolkit.tiff_pages import TIFF_STARTS, read_pages, select_page
from mmdistill.toolkit.video.pairing import NAMED_RATE_TOLERANCE, VIDEO_RATE_TOLERANCE, frame_rate, times_from_names
from mmdistill.toolkit.video.reading import Times


class IndexedImages:
    """Images that can be read in any order; thermal ones share a range, see ``ThermalRange``."""

    def __init__(self) -> None:
        self._range = ThermalRange()

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB, or None if it is missing.

        Raises:
            DataError: the image can't be read.
        """
        pixels = self._pixels(index)
        if pixels is None or not is_thermal(pixels):
            return None if pixels is None else to_rgb(pixels)
        for frame in self._range.unmeasured(index):
            self._range.measure(frame, pixels if frame == index else self._pixels_or_none(frame))
        return to_rgb(pixels, self._range.at(index, pixels))

    def _pixels(self, index: int) -> Pixels | None:
        raise NotImplementedError

    def _pixels_or_none(self, index: int) -> Pixels | None:
        try:
            return self._pixels(index)
        except DataError:
            return None


class ImageFolder(IndexedImages):
    """The images of a folder; thermal ones share a range, see ``ThermalRange``.

    Args:
        folder: the folder; frames are in natural order of the file names.
        files: the frames, None for a missing one; by default all images of the folder.

    Raises:
        DataError: the folder is missing or has no image.
    """

    rate_tolerance = NAMED_RATE_TOLERANCE
    truncation = ""

    def __init__(self, folder: str | Path, files: Sequence[Path | None] | None = None) -> None:
        super().__init__()
        self.files: Sequence[Path | None] = list_images(folder) if files is None else files

    def __len__(self) -> int:
        return len(self.files)

    @property
    def available(self) -> int:
        """Number of frames."""
        return len(self.files)

    @property
    def named_by_time(self) -> bool:
        """Whether the names consist of times only."""
        first = self.files[0] if self.files else None
        return first is not None and first.name[0].isdecimal() and self._times is not None

    @property
    def rate(self) -> float | None:
        """Frames per second, from the times in the names; None if the names are not times."""
        return frame_rate(self._times) if self.named_by_time else None

    def times(self) -> Times | None:
        """Return the times in the names ``(T,)``, seconds; None if the names have no times."""
        return self._times

    def time(self, index: int) -> float | None:
        """Return the time in the name of frame ``index``, seconds; None if the names are not times."""
        return float(self._times[index]) if self.named_by_time and self._times is not None else None

    @cached_property
    def _times(self) -> Times | None:
        first = self.files[0] if self.files else None
        if first is None or times_from_names([first.stem]) is None:  # as in most folders
            return None
        stems = [None if file is None else file.stem for file in self.files]
        return None if None in stems else times_from_names([stem for stem in stems if stem is not None])

    def _pixels(self, index: int) -> Pixels | None:
        file = self.files[index]
        return None if file is None else read_pixels(file)


class TiffStack(IndexedImages):
    """The pages of a TIFF file of a thermal camera; thermal pages share a range, see ``ThermalRange``.

    A truncated file ends with one broken frame.

    Attributes:
        path: the file.
        truncation: a description of a truncated file; else empty.
        available: number of readable pages.

    Raises:
        DataError: the file is missing, is not a TIFF file, or has a single page.
    """

    rate: float | None = None
    rate_tolerance = VIDEO_RATE_TOLERANCE
    named_by_time = False

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.path = Path(path)
        with open_regular_file(self.path) as file:
            # A private copy: selecting a page does not change the file.
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        pages, truncated = read_pages(self._data)
        self._pages = [page for page in pages if page.end <= len(self._data)]
        truncated = truncated or len(self._pages) < len(pages)
        self.available = len(self._pages)
        self.truncation = f"{self.path}: the TIFF file is cut off after page {self.available}" if truncated else ""
        if len(pages) + truncated < 2:
            raise DataError(f"{self.path}: expected a folder of images or a video file, got one image")

    def __len__(self) -> int:
        return self.available + bool(self.truncation)

    def times(self) -> Times | None:
        """Return None: pages have no times."""
        return None

    def time(self, index: int) -> None:
        """Return None: pages have no times."""

    def _pixels(self, index: int) -> Pixels:
        if index >= self.available:
            raise DataError(self.truncation)
        page = self._pages[index]
        select_page(self._data, page.directory)
        header = ImageHeader(
            "TIFF",
            page.width,
            page.height,
            white_is_zero=page.white_is_zero,
            problem=page.problem,
            by_opencv=page.by_opencv,
        )
        return decode(self._data, header, f"{self.path}: page {index + 1}")


def is_tiff(path: Path) -> bool:
    """Return whether a regular file begins as TIFF files do."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) in TIFF_STARTS
