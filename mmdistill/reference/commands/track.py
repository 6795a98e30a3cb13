"""``mmdistill track``: one video, boxes and an annotated video out."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from mmdistill.reference.data.box_files import write_boxes
from mmdistill.reference.data.boxes import Array, check_initial
from mmdistill.reference.data.frames import open_frames
from mmdistill.reference.device import choose_device
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.networks.weights import load_network
from mmdistill.reference.progress import progress_bar
from mmdistill.reference.tracking.annotate import annotate
from mmdistill.reference.tracking.tracker import RGBTTracker
from mmdistill.reference.tracking.video_writer import VideoWriter


def track(
    weights: Path,
    init: str,
    out: Path,
    rgb: Path | None = None,
    tir: Path | None = None,
    video: Literal["mp4", "gif", "none"] = "mp4",
    fps: float = 25.0,
    device: str = "auto",
) -> None:
    """Track a target through one video.

      mmdistill track --weights runs/student/network.safetensors --rgb clip/rgb --tir clip/tir
      --init 120,80,40,32 --out tracked

    Either modality may be missing: the one that is there then stands in for it. Writes boxes.txt (x,y,w,h a
    line), scores.txt, an annotated video (RGB beside TIR) and summary.json. Interrupted, it leaves what it has.

    Args:
        weights: a trained network.safetensors.
        init: the target in the first frame, x,y,w,h in pixels.
        out: folder for the results.
        rgb: folder of RGB images, or a video file.
        tir: folder of TIR images, or a video file.
        video: kind of annotated video.
        fps: frames per second of the annotated video.
        device: cpu, cuda, or auto.
    """
    box = parse_box(init)
    frames = open_frames(rgb, tir)
    box = check_initial(box, *frames.size, where="--init")
    tracker = RGBTTracker(load_network(weights).to(choose_device(device)))
    track = _Track(len(frames))
    with ExitStack() as stack:
        stack.callback(track.write, out)  # after an interruption too: what there is so far
        writer = None if video == "none" else stack.enter_context(VideoWriter(out / f"track.{video}", fps))
        bar = stack.enter_context(progress_bar(len(frames), "tracking", "frame"))
        for index in range(len(frames)):
            frame = frames.frame(index)
            start = time.perf_counter()
            if index == 0:
                tracker.init(frame, box)
                found, score = box, 1.0
            else:
                found, score = tracker.update(frame)
            track.append(found, score, time.perf_counter() - start)
            if writer is not None:
                writer.write(annotate(frame, {"mmdistill": found}, score=score, caption=f"frame {index + 1}"))
            bar.update()
    print(f"{out}: {len(track.boxes)} frames, {track.frames_per_second:.1f} frames per second")


@dataclass
class _Track:
    """What was found so far."""

    frames: int
    boxes: list[Array] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def append(self, box: Array, score: float, seconds: float) -> None:
        self.boxes.append(box)
        self.scores.append(score)
        self.seconds.append(seconds)

    @property
    def frames_per_second(self) -> float:
        """Without reading frames, writing video and the first frame."""
        return (len(self.seconds) - 1) / max(sum(self.seconds[1:]), 1e-9)

    def write(self, out: Path) -> None:
        if not self.boxes:
            return
        write_boxes(out / "boxes.txt", np.stack(self.boxes), decimals=3)
        write_text(out / "scores.txt", "".join(f"{score:.4f}\n" for score in self.scores))
        rate = round(self.frames_per_second, 2)
        summary = {"frames": self.frames, "tracked": len(self.boxes), "frames_per_second": rate}
        write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")


def parse_box(text: str) -> Array:
    """Return the box written as ``x,y,w,h``.

    Raises:
        DataError: it isn't four numbers.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4:
        raise DataError(f"--init: expected four numbers x,y,w,h separated by commas, got {text!r}")
    return np.array(numbers)
