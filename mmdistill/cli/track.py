"""``mmdistill track``: tracks a target through one video."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mmdistill.cli.alignment_option import alignment_notes
from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.alignment import read_alignment
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.drawing import Panel, choose_panels, draw_frame_pair
from mmdistill.toolkit.folder_lock import lock_folder
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.interruption import Interruption, collect_signals
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Range, Seed
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video import PairBy, Reading, VideoWriter, open_input

if TYPE_CHECKING:
    from mmdistill.reference.models.config import Modality
    from mmdistill.toolkit.track_output import TrackOutput
    from mmdistill.toolkit.tracking_loop import TrackedFrame

logger = logging.getLogger(__name__)

LOST_HINT_SHARE = 0.2
"""The share of frames with a lost target above which a hint is printed."""


def track(
    weights: Path,
    out: Path,
    init: str | None = None,
    rgb: str | None = None,
    tir: str | None = None,
    on_broken: Literal["stop", "skip"] = "stop",
    length_mismatch: Literal["error", "shorter"] = "error",
    pair_by: PairBy = "auto",
    align: Path | None = None,
    max_pixels: MaxPixels | None = None,
    response: bool = True,
    video: Literal["mp4", "gif", "none"] = "mp4",
    fps: Annotated[float, Range(0.01, 1000)] = 25.0,
    seed: Seed = 0,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
    quiet: bool = False,
) -> None:
    """Track a target through one video.

    Writes boxes.txt (x,y,w,h in pixels), scores.txt and frames.csv with a line for each frame. Also writes summary.json
    and an annotated video, RGB beside TIR. A missing, black or unreadable image is replaced by the other modality. In
    the video, a lost target has a gray, dashed box. After Ctrl-C, all files are complete up to that frame.

    Track in two folders of images:

      mmdistill track --weights runs/student/network.safetensors --rgb clip/rgb --tir clip/tir
      --init 120,80,40,32 --out tracked

    Track in a thermal video, and draw the box in a window:

      mmdistill track --weights runs/tir/network.safetensors --tir flight.mkv --out tracked

    Track in two cameras until Ctrl-C:

      mmdistill track --weights runs/student/network.safetensors --rgb 0 --tir 1 --init 120,80,40,32 --out tracked

    Args:
        weights: Network file, such as network.safetensors of `train`.
        out: Folder for the results.
        init: Target in the first frame: x,y,w,h in pixels, or a file with such a line. By default a window opens, in
            which you draw the box.
        rgb: RGB source: a folder of images, a video file, a TIFF file with several pages, or a camera's number.
        tir: TIR source of the same kinds. Images have 8 or 16 bits; TIFF may have floats.
        on_broken: stop: an unreadable image is an error. skip: the frame is tracked on the other modality. If both are
            unreadable, it keeps the last box.
        length_mismatch: error: RGB and TIR must have the same number of frames. shorter: the rest of the longer one is
            not used.
        pair_by: time: each RGB frame gets the TIR frame nearest in time, within half a frame of the slower source.
            Times of a video start at 0; names of images are times in seconds. index: frames are paired by number.
            auto: by number, but an error if the stated frame rates differ by over 1 %.
        align: File of `align`. TIR is warped to RGB's frame. TIR counts as missing where it does not cover the target.
        max_pixels: Pixels of the largest image that is read. By default MMDISTILL_MAX_PIXELS, or 100,000,000.
        response: Draw the tracker's response as a heat map.
        video: Format of the annotated video.
        fps: Frames per second of the annotated video.
        seed: Seed of the tracker.
        device: cpu, cuda, or auto.
        precision: Number format of the network. bfloat16 is faster on GPUs and newer CPUs; boxes change slightly.
        compile: Compile the network in the first frame. Takes up to a minute; later frames are faster. Needs a C++
            compiler on a CPU.
        quiet: Show no progress.
    """
    if rgb is None and tir is None:
        raise ArgumentError("--rgb: expected a video, a folder or a camera; or --tir, or both")
    if align is not None and (rgb is None or tir is None):
        raise ArgumentError("--align: expected --rgb and --tir")

    import torch

    from mmdistill.cli.initial_box import initial_box
    from mmdistill.reference.device import check_compiler, choose_device
    from mmdistill.reference.models.weights import load_network
    from mmdistill.reference.tracking.settings import published_settings
    from mmdistill.reference.tracking.tracker import Tracker
    from mmdistill.toolkit.track_output import TrackOutput
    from mmdistill.toolkit.tracking_loop import check_first_frame, track_video

    if max_pixels is not None:
        set_max_pixels(max_pixels)
    alignment = None if align is None else read_alignment(align)
    with closing(
        open_input(rgb, tir, length_mismatch=length_mismatch, on_broken=on_broken, pair_by=pair_by, alignment=alignment)
    ) as frames:
        if alignment is not None:
            for note in alignment_notes(alignment, by_time=pair_by == "time"):
                frames.warnings(note)
        readings = iter(frames)
        first = next(readings)
        check_first_frame(first)
        box = initial_box(init, first.images)
        chosen = choose_device(device)
        if compile:
            check_compiler("--compile", chosen)
        network = load_network(weights).to(chosen)
        _warn_of_missing_modality(network.settings.modality, rgb, tir)
        settings = published_settings(network.settings)
        tracker = Tracker(network, settings, seed=seed, compiled=compile)
        about = {
            "inputs": {"rgb": rgb, "tir": tir, "align": None if align is None else str(align)},
            "input_warnings": frames.warnings,
            "initial_box": box.tolist(),
            "weights": str(weights),
            "device": device,
            "precision": precision,
            "compiled": compile,
            "seed": seed,
            "network": asdict(network.settings),
            "tracking": asdict(settings),
        }
        draw = _Drawing(choose_panels(rgb is not None, tir is not None, response), first, frames.length)
        with ExitStack() as stack:
            interrupted = stack.enter_context(collect_signals())  # first, so that all files are closed before it ends
            stack.enter_context(lock_folder(out))
            output = stack.enter_context(TrackOutput(out, about, frames.length, incomplete=frames.incomplete))
            writer = None if video == "none" else stack.enter_context(VideoWriter(out / f"track.{video}", fps))
            bar = stack.enter_context(progress_bar(frames.length, "tracking", "frame", quiet=quiet))
            stack.enter_context(torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bfloat16"))
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
    """Return the number of frames and of those with a lost target; print a hint if there are many."""
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


def _warn_of_missing_modality(modality: Modality, rgb: str | None, tir: str | None) -> None:
    """Warn if the only modality a network was trained on is not given."""
    for side, given, other in (("rgb", rgb, tir), ("tir", tir, rgb)):
        if given is None and other is not None and modality == side:
            message = "the network was trained on %s, which is not given; the other modality is used"
            logger.warning(message, side.upper())


class _Drawing:
    """Draws the frames of one video with the same panels and size."""

    def __init__(self, panels: Sequence[Panel], first: Reading, frames: int | None) -> None:
        self._panels = panels
        self._of = "" if frames is None else f" of {frames}"
        self._size = next(image.shape[1::-1] for image in first.images if image is not None)

    def __call__(self, frame: TrackedFrame) -> Image:
        return draw_frame_pair(
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
