"""``mmdistill track``: one video, boxes and an annotated video out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

from mmdistill.cli.initial_box import initial_box
from mmdistill.reference.device import choose_device
from mmdistill.reference.models.config import Modality
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.tracking.settings import published_settings
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.drawing.annotate import Panel, annotate, choose_panels
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Range, Seed
from mmdistill.toolkit.run_control import Interruption, interruption, run_lock
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.track_output import TrackOutput
from mmdistill.toolkit.tracking_loop import TrackedFrame, check_first_frame, track_video
from mmdistill.toolkit.video import PairBy, Reading, open_input
from mmdistill.toolkit.video.video_writer import VideoWriter

logger = logging.getLogger(__name__)

LOST_HINT_SHARE = 0.2
"""Of the frames; where the target is lost in more, the output hints what to try."""


def track(
    weights: Path,
    out: Path,
    init: str | None = None,
    rgb: str | None = None,
    tir: str | None = None,
    on_broken: Literal["stop", "skip"] = "stop",
    unequal: Literal["error", "shorter"] = "error",
    pair_by: PairBy = "auto",
    max_pixels: MaxPixels | None = None,
    response: bool = True,
    video: Literal["mp4", "gif", "none"] = "mp4",
    fps: Annotated[float, Range(0.01, 1000)] = 25.0,
    seed: Seed = 0,
    device: str = "auto",
    quiet: bool = False,
) -> None:
    """Track a target through one video.

      mmdistill track --weights runs/student/network.safetensors --rgb clip/rgb --tir clip/tir
      --init 120,80,40,32 --out tracked

    The video of a thermal camera alone. Without --init a window opens, in which you draw the box:

      mmdistill track --weights runs/tir/network.safetensors --tir flight.mkv --out tracked

    Two cameras, until Ctrl-C:

      mmdistill track --weights runs/student/network.safetensors --rgb 0 --tir 1 --init 120,80,40,32 --out tracked

    A modality that is missing, black or unreadable in a frame is stood in for by the other one. Writes boxes.txt
    (x,y,w,h) and scores.txt with a line for each frame, frames.csv with what happened in it, an annotated video (RGB
    beside TIR) and summary.json. The last line of the output says in how many frames the target was lost; the video
    shows the box gray and dashed there. Interrupted, it leaves what it has.

    Args:
        weights: a trained network.safetensors.
        out: folder for the results.
        init: the target in the first frame, x,y,w,h in pixels, or a file with such a line. Not given: draw it with the
            mouse, in a window of Matplotlib's.
        rgb: folder of RGB images, a video file, a TIFF file of several pages, or a camera's number.
        tir: the same for TIR; images of 8 or 16 bits, TIFF also of floats.
        on_broken: stop: an unreadable image ends the run. skip: the frame is tracked on the other modality; without one
            it keeps the last box.
        unequal: error: RGB and TIR must have as many frames. shorter: the rest of the longer one is left out.
        pair_by: time: each RGB frame gets the TIR frame nearest in time, within half a frame of the slower recording; a
            video's times are counted from its start, images are named by theirs. index: frames are paired by number.
            auto: by number, refused if the stated frame rates differ by over 1 %.
        max_pixels: pixels of the largest image that is read (default 100,000,000, or MMDISTILL_MAX_PIXELS).
        response: draw what the tracker saw as a heat map.
        video: kind of annotated video.
        fps: frames per second of the annotated video.
        seed: of all that is random.
        device: cpu, cuda, or auto.
        quiet: show no progress.
    """
    if max_pixels is not None:
        set_max_pixels(max_pixels)
    with closing(open_input(rgb, tir, unequal=unequal, on_broken=on_broken, pair_by=pair_by)) as frames:
        readings = iter(frames)
        first = next(readings)
        check_first_frame(first)
        box = initial_box(init, first.images)
        network = load_network(weights).to(choose_device(device))
        _warn_of_what_it_cannot_see(network.settings.modality, rgb, tir)
        settings = published_settings(network.settings)
        tracker = Tracker(network, settings, seed=seed)
        about = {
            "inputs": {"rgb": rgb, "tir": tir},
            "input_warnings": frames.warnings,
            "initial_box": box.tolist(),
            "weights": str(weights),
            "device": device,
            "seed": seed,
            "network": asdict(network.settings),
            "tracking": asdict(settings),
        }
        draw = _Drawing(choose_panels(rgb is not None, tir is not None, response), first, frames.length)
        with ExitStack() as stack:
            interrupted = stack.enter_context(interruption())  # first, so that all files are whole before it ends
            stack.enter_context(run_lock(out))
            output = stack.enter_context(TrackOutput(out, about, frames.length, incomplete=frames.incomplete))
            writer = None if video == "none" else stack.enter_context(VideoWriter(out / f"track.{video}", fps))
            bar = stack.enter_context(progress_bar(frames.length, "tracking", "frame", quiet=quiet))
            for frame in track_video(tracker, chain([first], readings), box):
                output.append(frame)
                if frame.reading.problem:
                    logger.warning("frame %d: %s", frame.number, frame.reading.problem)
                if writer is not None:
                    writer.write(draw(frame))
                bar.update()
                if interrupted:
                    raise Interruption(interrupted[0])
    print(f"{printable(out)}: {_outcome(frame.number, output)}, {output.tracking_rate:.1f} frames per second")


def _outcome(frames: int, output: TrackOutput) -> str:
    """Return how many frames there were and in how many the target was lost; hint what to try where it often was."""
    lost = output.lost
    if lost.frames > LOST_HINT_SHARE * frames:
        logger.warning(
            "the target was lost in %.0f %% of the frames; try a tighter --init box, another start frame, or a network "
            "trained on such video",
            100 * lost.frames / frames,
        )
    first = "" if lost.first is None else f", first at {lost.first}"
    skipped = f", {output.skipped} without an image" if output.skipped else ""
    return f"lost in {lost.frames} of {frames} frames{first}{skipped}"


def _warn_of_what_it_cannot_see(modality: Modality, rgb: str | None, tir: str | None) -> None:
    """Say that the one modality a network was trained on is not given."""
    for side, given, other in (("rgb", rgb, tir), ("tir", tir, rgb)):
        if given is None and other is not None and modality == side:
            message = "the network was trained on %s, which is not given; it is shown the other modality instead"
            logger.warning(message, side.upper())


class _Drawing:
    """Draws frames of one video alike."""

    def __init__(self, panels: Sequence[Panel], first: Reading, frames: int | None) -> None:
        self._panels = panels
        self._of = "" if frames is None else f" of {frames}"
        self._size = next(image.shape[1::-1] for image in first.images if image is not None)

    def __call__(self, frame: TrackedFrame) -> Image:
        return annotate(
            frame.reading.images,
            {"mmdistill": frame.box},
            score=None if frame.flag == "skipped" else frame.score,
            caption=f"frame {frame.number}{self._of}",
            flag=frame.flag,
            response=frame.response,
            states=frame.reading.states,
            panels=self._panels,
            size=self._size,
        )
