"""From what a user names to frames."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.video.cameras import Camera
from mmdistill.toolkit.video.frames import Frames, LiveFrames
from mmdistill.toolkit.video.image_sequences import ImageFolder, TiffStack, is_tiff
from mmdistill.toolkit.video.pairing import PairBy, pair_by_time, pair_files
from mmdistill.toolkit.video.reading import InputWarnings, OnBroken, Source
from mmdistill.toolkit.video.video_file import VideoFile


def open_frames(
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    *,
    unequal: Literal["error", "shorter"] = "error",
    on_broken: OnBroken = "stop",
    pair_by: PairBy = "auto",
) -> Frames:
    """Open a recorded video of RGB, of TIR, or of both: for each a folder of images, a video or a multi-page TIFF.

    Two folders are paired by the order of their names, or by the numbers in them where a file is lost; see
    ``pair_files``. By time, each RGB frame gets the TIR frame nearest to it; see ``pair_by_time``.

    Args:
        rgb: the RGB frames.
        tir: the TIR frames.
        unequal: what modalities of different length are: an error, or as long as the shorter.
        on_broken: what an image that cannot be read does: raise its DataError, or count as none.
        pair_by: what makes two frames a pair. auto: their index, which is an error where rates are stated that differ.

    Raises:
        DataError: neither is given, a source is missing or unreadable, or the rates or frame counts differ.
    """
    warnings, where = InputWarnings(), Pair(str(rgb), str(tir))
    opened: Pair[Source | None]
    if rgb is not None and tir is not None and Path(rgb).is_dir() and Path(tir).is_dir() and pair_by != "time":
        files = pair_files(list_images(rgb, warnings), list_images(tir, warnings), warnings)
        opened = Pair(ImageFolder(rgb, files.rgb), ImageFolder(tir, files.tir))
    else:
        opened = Pair(_open_source(rgb, warnings), _open_source(tir, warnings))
    if pair_by == "time":
        if opened.rgb is None or opened.tir is None:
            raise DataError(f"--pair-by time: expected RGB and TIR, got {rgb} for RGB and {tir} for TIR")
        opened = pair_by_time(Pair(opened.rgb, opened.tir), where, warnings, on_broken)
    return Frames(*opened, where=where, unequal=unequal, on_broken=on_broken, pair_by=pair_by, warnings=warnings)


def open_input(
    rgb: str | None = None,
    tir: str | None = None,
    *,
    unequal: Literal["error", "shorter"] = "error",
    on_broken: OnBroken = "stop",
    pair_by: PairBy = "auto",
) -> Frames | LiveFrames:
    """Open what ``open_frames`` does, or cameras: ``"0"`` is the first device (a folder of that name is ``./0``).

    Raises:
        DataError: as there; a camera that cannot be opened, or a camera beside a recording.
    """
    given = Pair(rgb, tir)
    numbers = [name is not None and name.isdecimal() for name in given]
    if not any(numbers):
        return open_frames(rgb, tir, unequal=unequal, on_broken=on_broken, pair_by=pair_by)
    if pair_by == "time":
        raise DataError("--pair-by time: expected two recordings; cameras are paired as their frames come")
    if any(name is not None and not number for name, number in zip(given, numbers, strict=True)):
        raise DataError(f"frames: expected two cameras or two recordings, got {rgb} for RGB and {tir} for TIR")
    with ExitStack() as opened:
        cameras = Pair(*(None if name is None else _open_camera(int(name), opened) for name in given))
        opened.pop_all()
    return LiveFrames(*cameras, on_broken=on_broken)


def _open_camera(number: int, opened: ExitStack) -> Camera:
    """Open a camera that is closed again should the other one fail."""
    camera = Camera(number)
    opened.callback(camera.close)
    return camera


def _open_source(path: str | Path | None, warnings: InputWarnings) -> Source | None:
    if path is None:
        return None
    path = Path(path)
    if path.is_dir():
        return ImageFolder(path, list_images(path, warnings))
    return TiffStack(path) if is_tiff(path) else VideoFile(path)
