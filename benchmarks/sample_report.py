"""Make docs/sample_report.html: three simple trackers on synthetic video, with attributes and frames.

The trackers match the target's first image (normalized cross-correlation) around its last position: in RGB, in TIR, or
in the mean of both. They need no training, so that anyone can make the sample again in a minute:

    python benchmarks/sample_report.py
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from mmdistill.cli.main import main
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.io import write_text
from mmdistill.toolkit.sequence import Boxes, FramePair, Image, TrackingSequence

OUT = Path(__file__).parents[1] / "docs" / "sample_report.html"
TITLE = "Three template matchers on synthetic video"
COUNT, SEED, CLOSEUPS = 24, 1_000_000, 1
TRACKERS: dict[str, tuple[int, ...]] = {"RGB and TIR": (0, 1), "RGB alone": (0,), "TIR alone": (1,)}
"""By name, which images of a frame are matched: 0 is RGB, 1 is TIR."""

REACH = 1.0
"""How far a target may move from one frame to the next, in its own sizes."""


def follow(sequence: TrackingSequence, sides: tuple[int, ...]) -> Boxes:
    """Return the boxes ``(T, 4)`` of a matcher that never learns and never changes the box's size."""
    boxes = np.empty((len(sequence), 4))
    boxes[0] = np.rint(sequence.boxes[0])
    templates = [_cut(image, boxes[0]) for image in _gray(sequence.frame(0), sides)]
    for index in range(1, len(sequence)):
        boxes[index] = _matched(_gray(sequence.frame(index), sides), templates, boxes[index - 1])
    return boxes


def _matched(images: list[Image], templates: list[Image], last: Array) -> Array:
    height, width = images[0].shape
    tall, wide = templates[0].shape
    x, y = np.rint(last[:2]).astype(int)
    left, top = max(0, x - int(REACH * wide)), max(0, y - int(REACH * tall))
    right, bottom = min(width, x + int((1 + REACH) * wide)), min(height, y + int((1 + REACH) * tall))
    if right - left < wide or bottom - top < tall:
        return last
    scores = [
        cv2.matchTemplate(image[top:bottom, left:right], template, cv2.TM_CCOEFF_NORMED)
        for image, template in zip(images, templates, strict=True)
    ]
    row, column = np.unravel_index(int(np.mean(scores, axis=0).argmax()), scores[0].shape)
    return np.array([left + column, top + row, wide, tall], dtype=np.float64)


def _gray(frame: FramePair, sides: tuple[int, ...]) -> list[Image]:
    images = [frame[side] for side in sides]
    return [
        np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in images if image is not None
    ]


def _cut(image: Image, box: Array) -> Image:
    x, y, w, h = box.astype(int)
    return image[max(0, y) : y + h, max(0, x) : x + w]


def make(out: Path) -> int:
    """Track, and write the report's page, without the pictures of its plots; return the command's exit status."""
    with TemporaryDirectory() as folder:
        for sequence in synthetic_sequences(COUNT, seed=SEED):
            for name, sides in TRACKERS.items():
                write_boxes(Path(folder) / name / f"{sequence.name}.txt", follow(sequence, sides))
        page = Path(folder) / "page" / out.name
        folders = [str(Path(folder) / name) for name in TRACKERS]
        given = ["--benchmark", "synthetic", "--count", str(COUNT), "--seed", str(SEED), "--examples", str(CLOSEUPS)]
        status = main(["report", *folders, *given, "--title", TITLE, "--out", str(page)])
        if status == 0:
            write_text(out, page.read_text("utf-8"))
        return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="the page")
    sys.exit(make(parser.parse_args().out))
