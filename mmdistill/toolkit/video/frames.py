"""Recorded frames of both modalities, read side by side.

Live frames of both modalities, read side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property, partial
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.video.cameras import Camera
from mmdistill.toolkit.video.pairing import PairBy, check_rates, warn_of_times
from mmdistill.toolkit.video.reading import InputWarnings, Look, OnBroken, Reading, Source, combine, look
from mmdistill.toolkit.video.resizing import FixedSize, OneSize


class Frames:
    """The frames of both modalities; see ``open_frames``.

    Args:
        rgb: the RGB frames, or None.
        tir: the TIR frames, or None; frames of another size than RGB's are resized to it, which is logged once.
        where: what the two are called in errors.
        unequal: what modalities of different length are: an error, or as long as the shorter, which is logged once.
        on_broken: what an image that cannot be read does: raise its DataError, or count as none.
        pair_by: auto: by index, which is an error where two rates are stated that differ. index: by index whatever they
            are. time: they are paired already.
        warnings: takes what a user must know about the recordings.

    Attributes:
        warnings: what a user must know about the recordings.
        incomplete: why not all stated frames of all recordings are read; empty if they are.

    Raises:
        DataError: neither is given, or they differ in rate or length.
    """

    def __init__(
        self,
        rgb: Source | None,
        tir: Source | None,
        *,
        where: Pair[str],
        unequal: Literal["error", "shorter"] = "error",
        on_broken: OnBroken = "stop",
        pair_by: PairBy = "auto",
        warnings: InputWarnings | None = None,
    ) -> None:
        self.warnings = InputWarnings() if warnings is None else warnings
        given = [source for source in (rgb, tir) if source is not None]
        if not given:
            raise DataError("frames: expected an RGB or a TIR source or both, got neither")
        if rgb is not None and tir is not None and pair_by == "auto":
            check_rates(Pair(rgb, tir), where)
        cut = [source.shortfall for source in given if source.shortfall]
        for each in cut:
            self.warnings(each)
        lengths = [len(source) for source in given]
        if lengths[0] != lengths[-1]:
            got = f"got {lengths[0]} in {where.rgb} and {lengths[-1]} in {where.tir}"
            if unequal == "error":
                raise DataError(
                    f"expected as many RGB as TIR frames, {got}; --length-mismatch shorter leaves the rest out"
                )
            cut.append(f"{got}; the first {min(lengths)} are used")
            self.warnings(cut[-1])
        if rgb is not None and tir is not None and pair_by == "auto":
            warn_of_times(Pair(rgb, tir), where, self.warnings)
        self.incomplete = "; ".join(cut)
        self._sources = Pair(rgb, tir)
        self._where = where
        self._length = min(lengths)
        if on_broken == "skip":
            self._length = min(self._length, max(source.available for source in given))
        self._on_broken = on_broken
        self._one_size = OneSize(where.tir, None if rgb is None else self._usual_size, self.warnings)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Reading]:
        """Read all frames in order; those of RGB (of TIR, where it is alone) must have one size."""
        side = 0 if self._sources.rgb is not None else 1
        fixed = FixedSize(self._where[side])
        for index in range(len(self)):
            yield self._read(index, partial(fixed, number=index + 1), side)

    @property
    def length(self) -> int:
        """How many frames there are."""
        return len(self)

    def frame(self, index: int) -> FramePair:
        """Return the images of frame ``index`` (from 0); the modality that there is not, or that is black, is None."""
        return self.read(index).images

    def read(self, index: int) -> Reading:
        """Return frame ``index`` (from 0) and what each of its modalities is.

        Raises:
            DataError: an image cannot be read, unless such images are to be skipped.
        """
        return self._read(index)

    def _read(self, index: int, check: Callable[[Image | None], Image | None] | None = None, side: int = 0) -> Reading:
        looks = []
        for each, source in enumerate(self._sources):
            read = None if source is None else partial(source.frame, index)
            if read is not None and check is not None and each == side:
                read = partial(_checked, read, check)
            looks.append(look(read, self._on_broken))
        return combine(Pair(*looks), self._one_size)

    @cached_property
    def size(self) -> tuple[int, int]:
        """The width and height in pixels: those of the first RGB image, or of the first TIR image where it is alone."""
        rgb, tir = self._sources
        source, where = (rgb, self._where.rgb) if rgb is not None else (tir, self._where.tir)
        assert source is not None
        for index in range(len(self)):
            image = look(partial(source.frame, index), "skip").image
            if image is not None:
                return image.shape[1], image.shape[0]
        raise DataError(f"{where}: expected a frame that can be read, there is none")

    def _usual_size(self) -> tuple[int, int]:
        return self.size

    def close(self) -> None:
        """Nothing needs to be given back; live frames do."""


def _checked(read: Callable[[], Image | None], check: Callable[[Image | None], Image | None]) -> Image | None:
    return check(read())


class LiveFrames:
    """The newest frames of one or two cameras, without end.

    Two cameras run freely: what they show together differs by no more than the time between two frames of one.

    Args:
        rgb: the RGB camera, or None.
        tir: the TIR camera, or None; frames of another size than RGB's are resized to it, which is logged once.
        on_broken: what a camera that gives no more frames does: raise its DataError, or leave the other one to go on;
            the frames end when none is left.
    """

    length = None
    incomplete = ""

    def __init__(self, rgb: Camera | None, tir: Camera | None, *, on_broken: OnBroken = "stop") -> None:
        self._cameras = Pair(rgb, tir)
        self._on_broken = on_broken
        self._size = (0, 0)
        name = "" if tir is None else tir.name
        self.warnings = InputWarnings()
        reference = rgb if rgb is not None else tir
        self._fixed = None if reference is None else FixedSize(reference.name)
        self._one_size = OneSize(name, None if rgb is None else lambda: self._size, self.warnings)

    def __iter__(self) -> Iterator[Reading]:
        number = 0
        looks = self._looks("stop")  # a camera must give at least one frame
        while any(each.image is not None for each in looks):
            if looks.rgb.image is not None:
                self._size = looks.rgb.image.shape[1::-1]
            number += 1
            if self._fixed is not None:
                self._fixed(looks.rgb.image if self._cameras.rgb is not None else looks.tir.image, number)
            yield combine(looks, self._one_size)
            looks = self._looks(self._on_broken)

    def close(self) -> None:
        """Let go of the cameras."""
        for camera in self._cameras:
            if camera is not None:
                camera.close()

    def _looks(self, on_broken: OnBroken) -> Pair[Look]:
        return Pair(*(look(None if camera is None else camera.frame, on_broken) for camera in self._cameras))
