"""The pages of a TIFF file as frames."""

from __future__ import annotations

import mmap
from pathlib import Path

from mmdistill.reference.data.frames.steady_range import SteadyRange
from mmdistill.reference.data.frames.times import VIDEO_RATE_TOLERANCE, Times
from mmdistill.reference.data.image_headers import ImageHeader
from mmdistill.reference.data.images import Pixels, decode, is_thermal, to_rgb
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.data.tiff_pages import TIFF_STARTS, read_pages, select_page
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import open_regular


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
        with open_regular(self.path) as file:
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
