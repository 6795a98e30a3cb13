"""``mmdistill track``: tracks a target through one video."""

from __future__ import annotations

import logging
import sys
from contextlib import ExitStack, closing, redirect_stdout
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mmdistill.cli.alignment_option import alignment_notes
from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.alignment import read_alignment
from mmdistill.toolkit.drawing import choose_panels
from mmdistill.toolkit.folder_lock import lock_folder
from mmdistill.toolkit.images import MaxPixels, set_max_pixels
from mmdistill.toolkit.interruption import Interruption, collect_signals
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Range, Seed
from mmdistill.toolkit.video import PairBy, VideoWriter, open_input, without_password

if TYPE_CHECKING:
    from mmdistill.reference.models.config import Modality

logger = logging.getLogger(__name__)


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
    video: Literal["mp4", "webm", "gif", "none"] = "mp4",
    fps: Annotated[float, Range(0.01, 1000)] = 25.0,
    seed: Seed = 0,
    device: str = "auto",
    precision: Literal["float32", "bfloat16"] = "float32",
    compile: bool = False,
    show: bool = False,
    stream: bool = False,
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

    Track in two cameras until Ctrl-C, and watch it in a window:

      mmdistill track --weights runs/student/network.safetensors --rgb 0 --tir 1 --out tracked --show

    Pass each frame's box to another program while the run goes on:

      mmdistill track --weights runs/tir/network.safetensors --tir 0 --out tracked --stream | python steer.py

    Track in a camera of the network:

      mmdistill track --weights runs/rgb/network.safetensors --rgb rtsp://user:password@10.0.0.7/stream --out tracked

    Args:
        weights: Network file, such as network.safetensors of `train`.
        out: Folder for the results.
        init: Target in the first frame: x,y,w,h in pixels, or a file with such a line. By default a window opens, in
            which you draw the box.
        rgb: RGB source: a folder of images, a video file, a TIFF file with several pages, a camera's number, or an
            address such as rtsp://10.0.0.7/stream. Of cameras and streams, the newest frame is tracked.
        tir: TIR source of the same kinds. Images and video have 8 to 16 bits; TIFF may have floats.
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
        video: Format of the annotated video. Browsers play all three: mp4 (H.264), webm (VP9) and gif.
        fps: Frames per second of the annotated video.
        seed: Seed of the tracker.
        device: cpu, cuda, or auto.
        precision: Number format of the network. bfloat16 is faster on GPUs and newer CPUs; boxes change slightly.
        compile: Compile the network in the first frame. Takes up to a minute; later frames are faster. Needs a C++
            compiler on a CPU.
        show: Show frames in a window while they are tracked. Takes about a tenth of the time and skips frames for that.
            q or Esc in the window ends the run; closing the window does not.
        stream: Write a JSON line for each frame to standard output at once: frame, time (s), box, score, flag, seconds.
            All other lines are then on standard error.
        quiet: Show no progress.
    """
    if stream and sys.stdout is None:
        raise ArgumentError("--stream: there is no standard output to write to")
    if rgb is None and tir is None:
        raise ArgumentError("--rgb: expected a video, a folder or a camera; or --tir, or both")
    if align is not None and (rgb is None or tir is None):
        raise ArgumentError("--align: expected --rgb and --tir")

    import torch

    from mmdistill.cli.frame_outputs import FrameDrawing, FrameOutputs, OutcomeLine, open_live_window
    from mmdistill.cli.initial_box import initial_box
    from mmdistill.reference.device import check_compiler, choose_device
    from mmdistill.reference.models.weights import load_network
    from mmdistill.reference.tracking.settings import published_settings
    from mmdistill.reference.tracking.tracker import Tracker
    from mmdistill.toolkit.frame_stream import FrameStream
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
        window = open_live_window() if show else None
        chosen = choose_device(device)
        if compile:
            check_compiler("--compile", chosen)
        network = load_network(weights).to(chosen)
        _warn_of_missing_modality(network.settings.modality, rgb, tir)
        settings = published_settings(network.settings)
        tracker = Tracker(network, settings, seed=seed, compiled=compile)
        about = {
            "inputs": {side: name and without_password(name) for side, name in (("rgb", rgb), ("tir", tir))}
            | {"align": None if align is None else str(align)},
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
        drawing = FrameDrawing(choose_panels(rgb is not None, tir is not None, response), first, frames.length)
        lines = FrameStream(sys.stdout) if stream else None
        with ExitStack() as stack:
            interrupted = stack.enter_context(collect_signals())  # first, so that all files are closed before it ends
            stack.enter_context(lock_folder(out))
            files = TrackOutput(out, about, frames.length, incomplete=frames.incomplete)
            stack.enter_context(OutcomeLine(files, sys.stderr if stream else sys.stdout))
            stack.enter_context(files)
            writer = None if video == "none" else stack.enter_context(VideoWriter(out / f"track.{video}", fps))
            outputs = FrameOutputs(files, drawing, writer, lines, window)
            # On one terminal with the bar, the lines of --stream are the progress.
            hidden = quiet or (stream and sys.stdout.isatty() and sys.stderr is not None and sys.stderr.isatty())
            bar = stack.enter_context(progress_bar(frames.length, "tracking", "frame", quiet=hidden))
            if stream:
                stack.enter_context(redirect_stdout(sys.stderr))
            if window is not None:
                stack.enter_context(window)
            stack.enter_context(torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bfloat16"))
            for frame in track_video(tracker, chain([first], readings), box):
                stop = outputs.write(frame)
                bar.update()
                if interrupted:
                    raise Interruption(interrupted[0])
                if stop:
                    break
    if lines is not None and lines.closed:
        raise BrokenPipeError  # for the exit status


def _warn_of_missing_modality(modality: Modality, rgb: str | None, tir: str | None) -> None:
    """Warn if the only modality a network was trained on is not given."""
    for side, given, other in (("rgb", rgb, tir), ("tir", tir, rgb)):
        if given is None and other is not None and modality == side:
            message = "the network was trained on %s, which is not given; the other modality is used"
            logger.warning(message, side.upper())
