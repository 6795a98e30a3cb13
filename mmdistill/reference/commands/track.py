"""``mmdistill track``: one video, boxes and an annotated video out."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Literal

import numpy as np
from tqdm import tqdm

from mmdistill.reference.data.box_files import write_boxes
from mmdistill.reference.data.boxes import Array, check_initial
from mmdistill.reference.data.frames import open_frames
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.networks.weights import load_network
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
    device: str = "cpu",
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
        device: cpu or cuda.
    """
    box = parse_box(init)
    frames = open_frames(rgb, tir)
    width, height = frames.size
    box = check_initial(box, width, height, where="--init")
    network = load_network(weights).to(device)
    tracker = RGBTTracker(network)
    boxes: list[Array] = []
    scores: list[float] = []
    seconds = 0.0
    writer = None if video == "none" else VideoWriter(out / f"track.{video}", fps)
    try:
        for index in tqdm(range(len(frames)), desc="tracking", unit="frame", disable=None):
            frame = frames.frame(index)
            start = time.perf_counter()
            if index == 0:
                tracker.init(frame, box)
                found, score = box, 1.0
            else:
                found, score = tracker.update(frame)
            seconds += time.perf_counter() - start if index else 0.0
            boxes.append(found)
            scores.append(score)
            if writer is not None:
                writer.write(annotate(frame, {"mmdistill": found}, score=score, caption=f"frame {index + 1}"))
    finally:
        if writer is not None:
            writer.__exit__(None, None, None)
        if boxes:
            _write_results(out, boxes, scores, seconds, len(frames))
    rate = (len(boxes) - 1) / seconds if seconds else 0.0
    print(f"{out}: {len(boxes)} frames, {rate:.1f} frames per second")


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


def _write_results(out: Path, boxes: list[Array], scores: list[float], seconds: float, frames: int) -> None:
    write_boxes(out / "boxes.txt", np.stack(boxes), decimals=3)
    write_text(out / "scores.txt", "".join(f"{score:.4f}\n" for score in scores))
    rate = (len(boxes) - 1) / seconds if seconds else 0.0
    summary = {"frames": frames, "tracked": len(boxes), "frames_per_second": round(rate, 2)}
    write_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
