"""``mmdistill align``: finds how a TIR camera and an RGB camera agree."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from mmdistill.cli.arguments import ArgumentError
from mmdistill.pair import Pair
from mmdistill.toolkit.alignment import (
    align_automatically,
    describe_residuals,
    fit_points,
    read_points,
    write_alignment,
)
from mmdistill.toolkit.alignment.delay import HINT, Delay, estimate_delay, measure_motion
from mmdistill.toolkit.alignment.estimation import NUM_STEPS
from mmdistill.toolkit.alignment.pictures import write_pictures
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Range
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import CameraFrames, Frames, PairBy, Reading, open_frames, open_input, without_password

logger = logging.getLogger(__name__)

MOTION_SECONDS = 60.0
"""Seconds of video that are read to find the delay."""

CAMERA_INTERVAL = 15
"""Frames of a camera between two that are used, so that the scene changes."""

SPARE_FRAMES = 4
"""Frames that are tried for each one that is used, because some have no image."""


def align(
    rgb: str,
    tir: str,
    out: Path = Path("alignment.json"),
    points: Path | None = None,
    frames: Annotated[int, Range(1, 100)] = 8,
    delay: Literal["auto", "none"] | Annotated[float, Range(-3600, 3600)] = "auto",
    pair_by: PairBy = "auto",
    length_mismatch: Literal["error", "shorter"] = "error",
    on_broken: Literal["stop", "skip"] = "stop",
    max_pixels: MaxPixels | None = None,
    quiet: bool = False,
) -> None:
    """Find how two cameras agree: a homography from TIR to RGB, and the delay of TIR.

    Writes a JSON file for the option --align of track, train, compose, check and report. Writes two pictures beside it:
    a checkerboard of both images (.png) and one that blinks between them (.gif). In the checkerboard, edges must
    continue across the squares. Exit status 1 if the result is not reliable. Needs no PyTorch.

    Align two videos, then track in them:

      mmdistill align --rgb drone.mp4 --tir thermal.mp4 --out alignment.json
      mmdistill track --rgb drone.mp4 --tir thermal.mp4 --align alignment.json --pair-by time
      --weights network.safetensors --init 120,80,40,32 --out tracked

    Align two folders of images:

      mmdistill align --rgb clip/rgb --tir clip/tir --frames 16

    Use points that you marked in both images, a line x_rgb,y_rgb,x_tir,y_tir for each:

      mmdistill align --rgb clip/rgb --tir clip/tir --points points.csv

    Args:
        rgb: RGB source: a folder of images, a video file, a TIFF file with several pages, or a camera's number.
        tir: TIR source of the same kinds.
        out: JSON file to write.
        points: File of at least four point pairs, x_rgb,y_rgb,x_tir,y_tir in pixels. By default the images are
            compared.
        frames: Frame pairs to compare, spread over the recording. More are slower and more reliable.
        delay: Seconds by which TIR shows an event later than RGB. auto: found from motion where both sources have
            times. none: not searched.
        pair_by: How frames are paired, as in track. With a delay they are paired by time.
        length_mismatch: error: RGB and TIR must have the same number of frames. shorter: the rest of the longer one is
            not used.
        on_broken: stop: an unreadable image is an error. skip: another frame is used.
        max_pixels: Pixels of the largest image that is read. By default MMDISTILL_MAX_PIXELS, or 100,000,000.
        quiet: Show no progress.
    """
    if out.suffix.lower() != ".json":
        raise ArgumentError(f"--out: expected a name that ends in .json, got {out}")
    if max_pixels is not None:
        set_max_pixels(max_pixels)
    timed = _open_timed(Pair(rgb, tir))
    seconds = None if isinstance(delay, str) else delay
    if delay == "auto" and timed is not None:
        seconds = _find_delay(timed, quiet=quiet)
    by_time = pair_by == "time" or (bool(seconds) and timed is not None)
    with closing(
        open_input(
            rgb,
            tir,
            length_mismatch=length_mismatch,
            on_broken=on_broken,
            pair_by="time" if by_time else pair_by,
            delay=seconds,
            resize=False,
        )
    ) as opened:
        pairs = list(islice(_usable_pairs(opened, frames), frames if points is None else 1))
    if not pairs:
        names = " and ".join(map(without_password, (rgb, tir)))
        raise DataError(f"{names}: expected a frame with an RGB and a TIR image, found none")
    if points is None:
        with progress_bar(NUM_STEPS, f"aligning {len(pairs)} frame pairs", "step", quiet=quiet) as bar:
            alignment = align_automatically(pairs, bar.update)
    else:
        sizes = [(image.shape[1], image.shape[0]) for image in pairs[0]]
        fit = fit_points(read_points(points), sizes[0], sizes[1], str(points))
        alignment = fit.alignment
        print(describe_residuals(fit))
    alignment = replace(alignment, delay=None if seconds is None else round(seconds, 4), where=str(out))
    pictures = write_pictures(out, pairs[0], alignment)
    write_alignment(out, alignment)
    print(alignment.describe())
    print(f"TIR covers {100 * alignment.coverage:.0f} % of RGB's frame; score {alignment.score:.2f}")
    print(f"{printable(out)}; see whether it holds: {printable(pictures.rgb)} and {printable(pictures.tir)}")


def _open_timed(sources: Pair[str]) -> Pair[Frames] | None:
    """Return both recordings, each alone; None if one has no times, as live sources and most folders of images."""
    if any(source.isdecimal() or "://" in source for source in sources):
        return None
    opened = Pair(open_frames(rgb=sources.rgb, on_broken="skip"), open_frames(tir=sources.tir, on_broken="skip"))
    return None if any(each.times() is None for each in opened) else opened


def _find_delay(recordings: Pair[Frames], *, quiet: bool) -> float | None:
    """Return the delay of TIR in seconds; None, with a warning, if it is not sure."""
    times = [each.times() for each in recordings]
    used = [each[each < each[:1] + MOTION_SECONDS] for each in times if each is not None]
    with progress_bar(sum(map(len, used)), "searching the delay", "frame", quiet=quiet) as bar:

        def images(frames: Frames, count: int) -> Iterator[Image | None]:
            for index in range(min(count, len(frames))):
                bar.update()
                rgb, tir = frames.frame(index)
                yield rgb if rgb is not None else tir

        motion = Pair(*(measure_motion(of, images(each, len(of))) for each, of in zip(recordings, used, strict=True)))
    try:
        found = estimate_delay(motion.rgb, motion.tir)
    except DataError as error:
        logger.warning("%s", error)
        return None
    if not found.sure:
        logger.warning("no delay was found: %s; %s", _describe(found), HINT)
        return None
    print(f"TIR is {found.seconds:+.3f} s behind RGB: {_describe(found)}")
    return found.seconds


def _describe(delay: Delay) -> str:
    return f"motion correlates with {delay.correlation:.2f}, {max(delay.lead, 0):.2f} above any other delay"


def _usable_pairs(frames: Frames | CameraFrames, count: int) -> Iterator[Pair[Image]]:
    """Yield frame pairs in which both modalities show something, spread over the recording."""
    readings: Iterator[Reading]
    if isinstance(frames, Frames):
        wanted = np.unique(np.linspace(0, len(frames) - 1, min(len(frames), SPARE_FRAMES * count)).round().astype(int))
        # The frames in use come first, then those between them.
        order = sorted(range(len(wanted)), key=lambda position: (position % SPARE_FRAMES != 0, position))
        readings = (frames.read(int(wanted[position])) for position in order)
    else:
        readings = islice(frames, 0, SPARE_FRAMES * count * CAMERA_INTERVAL, CAMERA_INTERVAL)
    for reading in readings:
        rgb, tir = reading.images
        if rgb is not None and tir is not None and reading.states == Pair("seen", "seen"):
            yield Pair(rgb, tir)
