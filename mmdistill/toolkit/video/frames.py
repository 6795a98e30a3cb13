"""Opens and reads videos of RGB, TIR or both: recordings, cameras and streams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cached_property, partial
from pathlib import Path
from time import monotonic
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.sequence import FramePair, Image
from mmdistill.toolkit.video.image_sequences import ImageFolder
from mmdistill.toolkit.video.live import LiveSource
from mmdistill.toolkit.video.network_stream import without_password
from mmdistill.toolkit.video.pairing import PairBy, check_rates, pair_by_time, pair_files, warn_of_time_differences
from mmdistill.toolkit.video.reading import (
    FrameSource,
    InputWarnings,
    ModalityReading,
    OnBroken,
    Reading,
    SizeCheck,
    Times,
    TirResizer,
    combine_modalities,
    read_modality,
)
from mmdistill.toolkit.video.sources import is_live, open_live, open_recording

LengthMismatch = Literal["error", "shorter"]
"""What to do with modalities of different length: raise an error, or use the shorter length."""


def open_frames(
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    *,
    length_mismatch: LengthMismatch = "error",
    on_broken: OnBroken = "stop",
    pair_by: PairBy = "auto",
    alignment: Alignment | None = None,
    delay: float | None = None,
    resize: bool = True,
) -> Frames:
    """Open a recorded video of RGB, TIR or both; a source is a folder of images, a video file or a multi-page TIFF.

    Two folders are paired by the order of their files, or by the numbers in their names if files are lost; see
    ``pair_files``. With ``pair_by="time"`` each RGB frame gets the nearest TIR frame; see ``pair_by_time``.

    Args:
        rgb: the RGB frames.
        tir: the TIR frames.
        length_mismatch: whether modalities of different length are an error, or the shorter length is used.
        on_broken: whether an unreadable image raises its error, or counts as missing.
        pair_by: how frames are paired. ``auto``: by index; an error if the stated rates differ.
        alignment: how the cameras agree. TIR is warped to RGB's frame, and ``time`` applies the delay.
        delay: seconds by which TIR shows an event later than RGB, for ``time``; by default the alignment's.
        resize: whether TIR gets RGB's size; without it each image keeps its own.

    Raises:
        DataError: no source is given, a source is missing or unreadable, or rates or frame counts differ.
    """
    warnings, where = InputWarnings(), Pair(*(without_password(str(name)) for name in (rgb, tir)))
    _check_both(alignment, Pair(*(None if name is None else str(name) for name in (rgb, tir))))
    sources: Pair[FrameSource | None]
    if rgb is not None and tir is not None and Path(rgb).is_dir() and Path(tir).is_dir() and pair_by != "time":
        files = pair_files(list_images(rgb, warnings), list_images(tir, warnings), warnings)
        sources = Pair(ImageFolder(rgb, files.rgb), ImageFolder(tir, files.tir))
    else:
        sources = Pair(open_recording(rgb, warnings), open_recording(tir, warnings))
    if pair_by == "time":
        if sources.rgb is None or sources.tir is None:
            raise DataError(f"--pair-by time: expected RGB and TIR, got {where.rgb} for RGB and {where.tir} for TIR")
        if delay is None and alignment is not None:
            delay = alignment.delay
        sources = pair_by_time(Pair(sources.rgb, sources.tir), where, warnings, on_broken, delay=delay or 0.0)
    return Frames(
        *sources,
        where=where,
        length_mismatch=length_mismatch,
        on_broken=on_broken,
        pair_by=pair_by,
        warnings=warnings,
        alignment=alignment,
        resize=resize,
    )


def open_input(
    rgb: str | None = None,
    tir: str | None = None,
    *,
    length_mismatch: LengthMismatch = "error",
    on_broken: OnBroken = "stop",
    pair_by: PairBy = "auto",
    alignment: Alignment | None = None,
    delay: float | None = None,
    resize: bool = True,
) -> Frames | CameraFrames:
    """Open recordings as ``open_frames`` does, or live sources.

    Live sources are cameras (``"0"`` is the first device, ``"./0"`` a folder) and streams (``"rtsp://..."``). A web
    address with a stated duration is a recording.

    Raises:
        DataError: as ``open_frames``; also if a live source can't be opened, or is combined with a recording.
    """
    names = Pair(rgb, tir)
    are_live = [name is not None and is_live(name) for name in names]
    if not any(are_live):
        return open_frames(
            rgb,
            tir,
            length_mismatch=length_mismatch,
            on_broken=on_broken,
            pair_by=pair_by,
            alignment=alignment,
            delay=delay,
            resize=resize,
        )
    _check_both(alignment, names)
    if pair_by == "time":
        raise DataError("--pair-by time: expected two recordings, got a camera or a stream")
    if any(name is not None and not live for name, live in zip(names, are_live, strict=True)):
        where = Pair(*(without_password(str(name)) for name in names))
        raise DataError(
            f"frames: expected two cameras or two recordings, got {where.rgb} for RGB and {where.tir} for TIR; a "
            "stream counts as a camera"
        )
    with ExitStack() as opened:
        sources = Pair(*(None if name is None else _open_live(name, opened) for name in names))
        opened.pop_all()
    return CameraFrames(*sources, on_broken=on_broken, alignment=alignment, resize=resize)


def _check_both(alignment: Alignment | None, sources: Pair[str | None]) -> None:
    """Refuse an alignment of a video of one modality."""
    if alignment is not None and None in sources:
        rgb, tir = (without_password(str(name)) for name in sources)
        raise DataError(f"{alignment.where}: expected RGB and TIR, got {rgb} for RGB and {tir} for TIR")


def _open_live(name: str, opened: ExitStack) -> LiveSource:
    """Open a camera or a stream, and register that it is closed if the other one fails."""
    source = open_live(name)
    opened.callback(source.close)
    return source


class Frames:
    """The recorded frame pairs of one or two sources; see ``open_frames``.

    Args:
        rgb: the RGB frames, or None.
        tir: the TIR frames, or None; frames of another size than RGB's are resized, with a warning.
        where: names of both sources, for errors.
        length_mismatch: whether modalities of different length are an error, or the shorter length is used.
        on_broken: whether an unreadable image raises its error, or counts as missing.
        pair_by: ``auto``: by index, an error if the stated rates differ. ``index``: by index at any rates. ``time``:
            the sources are paired already.
        warnings: receives the warnings.
        alignment: how the cameras agree; without it TIR is resized.
        resize: whether TIR gets RGB's size.

    Attributes:
        warnings: the warnings about the sources.
        incomplete: why not all stated frames are read; empty if all are.

    Raises:
        DataError: no source is given, or the sources differ in rate or length.
    """

    def __init__(
        self,
        rgb: FrameSource | None,
        tir: FrameSource | None,
        *,
        where: Pair[str],
        length_mismatch: LengthMismatch = "error",
        on_broken: OnBroken = "stop",
        pair_by: PairBy = "auto",
        warnings: InputWarnings | None = None,
        alignment: Alignment | None = None,
        resize: bool = True,
    ) -> None:
        self.warnings = InputWarnings() if warnings is None else warnings
        sources = [source for source in (rgb, tir) if source is not None]
        if not sources:
            raise DataError("frames: expected an RGB or a TIR source or both, got neither")
        if rgb is not None and tir is not None and pair_by == "auto":
            check_rates(Pair(rgb, tir), where)
        reasons = [source.truncation for source in sources if source.truncation]
        for reason in reasons:
            self.warnings(reason)
        lengths = [len(source) for source in sources]
        if lengths[0] != lengths[-1]:
            got = f"got {lengths[0]} in {where.rgb} and {lengths[-1]} in {where.tir}"
            if length_mismatch == "error":
                raise DataError(
                    f"expected as many RGB as TIR frames, {got}; --length-mismatch shorter uses the shorter length"
                )
            reasons.append(f"{got}; the first {min(lengths)} are used")
            self.warnings(reasons[-1])
        if rgb is not None and tir is not None and pair_by == "auto":
            warn_of_time_differences(Pair(rgb, tir), where, self.warnings)
        self.incomplete = "; ".join(reasons)
        self._sources = Pair(rgb, tir)
        self._where = where
        self._length = min(lengths)
        if on_broken == "skip":
            self._length = min(self._length, max(source.available for source in sources))
        self._on_broken = on_broken
        rgb_size = None if rgb is None or not resize else self._reference_size
        self._resize = TirResizer(where.tir, rgb_size, self.warnings, alignment)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Reading]:
        """Read all frames in order; the frames of RGB (of TIR without RGB) must have one size."""
        reference = 0 if self._sources.rgb is not None else 1
        check_size = SizeCheck(self._where[reference])
        for index in range(len(self)):
            yield self._read(index, partial(check_size, number=index + 1), reference)

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self)

    def frame(self, index: int) -> FramePair:
        """Return the images of frame ``index`` (from 0); an absent, missing or black modality is None."""
        return self.read(index).images

    def read(self, index: int) -> Reading:
        """Return frame ``index`` (from 0) with the state of each modality.

        Raises:
            DataError: an image can't be read and ``on_broken`` is ``stop``.
        """
        return self._read(index)

    def _read(
        self, index: int, check: Callable[[Image | None], Image | None] | None = None, reference: int = 0
    ) -> Reading:
        modalities = []
        for side, source in enumerate(self._sources):
            read = None if source is None else partial(source.frame, index)
            if read is not None and check is not None and side == reference:
                read = partial(_read_checked, read, check)
            modalities.append(read_modality(read, self._on_broken))
        timed = self._sources.tir if self._sources.rgb is None else self._sources.rgb
        time = None if timed is None else timed.time(index)
        return combine_modalities(Pair(*modalities), self._resize, self._resize.mask)._replace(time=time)

    @cached_property
    def size(self) -> tuple[int, int]:
        """Width and height of the first readable RGB image, or TIR image if there is no RGB, pixels."""
        rgb, tir = self._sources
        source, where = (rgb, self._where.rgb) if rgb is not None else (tir, self._where.tir)
        assert source is not None
        for index in range(len(self)):
            image = read_modality(partial(source.frame, index), "skip").image
            if image is not None:
                return image.shape[1], image.shape[0]
        raise DataError(f"{where}: expected a frame that can be read, there is none")

    def times(self) -> Times | None:
        """Return the time of each frame of RGB, or of TIR if there is no RGB, seconds; None if unknown."""
        source = self._sources.rgb if self._sources.rgb is not None else self._sources.tir
        return None if source is None else source.times()

    def _reference_size(self) -> tuple[int, int]:  # a method, because frames are pickled for worker processes
        return self.size

    def close(self) -> None:
        """Do nothing; ``CameraFrames`` releases its cameras here."""


def _read_checked(read: Callable[[], Image | None], check: Callable[[Image | None], Image | None]) -> Image | None:
    return check(read())


class CameraFrames:
    """The newest frame pairs of one or two cameras or streams, without end.

    The sources are not synchronized: their images differ in time by at most one frame interval.

    Args:
        rgb: the RGB source, or None.
        tir: the TIR source, or None; frames of another size than RGB's are resized, with a warning.
        on_broken: whether a source that delivers no more frames raises an error, or the other one continues. The
            frames end when no source is left.
        alignment: how the cameras agree; without it TIR is resized.
        resize: whether TIR gets RGB's size.
    """

    length = None
    incomplete = ""

    def __init__(
        self,
        rgb: LiveSource | None,
        tir: LiveSource | None,
        *,
        on_broken: OnBroken = "stop",
        alignment: Alignment | None = None,
        resize: bool = True,
    ) -> None:
        self._sources = Pair(rgb, tir)
        self._on_broken = on_broken
        self._rgb_size = (0, 0)
        self.warnings = InputWarnings()
        reference = rgb if rgb is not None else tir
        self._check_size = None if reference is None else SizeCheck(reference.name)
        name = "" if tir is None else tir.name
        rgb_size = None if rgb is None or not resize else lambda: self._rgb_size
        self._resize = TirResizer(name, rgb_size, self.warnings, alignment)

    def __iter__(self) -> Iterator[Reading]:
        number, start = 0, 0.0
        modalities = self._read("stop")  # each source must deliver at least one frame
        while any(each.image is not None for each in modalities):
            rgb, tir = (each.image for each in modalities)
            if rgb is not None:
                self._rgb_size = rgb.shape[1::-1]
            number += 1
            if self._check_size is not None:
                self._check_size(rgb if self._sources.rgb is not None else tir, number)
            now = monotonic()
            start = now if number == 1 else start
            yield combine_modalities(modalities, self._resize, self._resize.mask)._replace(time=now - start)
            modalities = self._read(self._on_broken)

    def close(self) -> None:
        """Release the cameras and streams."""
        for source in self._sources:
            if source is not None:
                source.close()

    def _read(self, on_broken: OnBroken) -> Pair[ModalityReading]:
        return Pair(*(read_modality(None if source is None else source.frame, on_broken) for source in self._sources))
