"""Makes docs/sample_report.html: a report of three template matchers on synthetic video, with attributes and frames.

The trackers match the target's first image by normalized cross-correlation around its last position, in RGB, in TIR, or
in the mean of both. They need no training. Takes 15 seconds on one core.

Example:
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
NUM_VIDEOS, SEED, CLOSEUPS = 24, 1_000_000, 1
TRACKERS: dict[str, tuple[int, ...]] = {"RGB and TIR": (0, 1), "RGB alone": (0,), "TIR alone": (1,)}
"""Tracker to the images that it matches: 0 is RGB, 1 is TIR."""

SEARCH_RADIUS = 1.0
"""Largest movement between frames, in target sizes."""


def track(sequence: TrackingSequence, sides: tuple[int, ...]) -> Boxes:
    """Return the boxes ``(T, 4)`` of a template matcher with fixed template and box size."""
    boxes = np.empty((len(sequence), 4))
    boxes[0] = np.rint(sequence.boxes[0])
    templates = [_cut(image, boxes[0]) for image in _gray(sequence.frame(0), sides)]
    for index in range(1, len(sequence)):
        boxes[index] = _matched(_gray(sequence.frame(index), sides), templates, boxes[index - 1])
    return boxes


def _matched(images: list[Image], templates: list[Image], last: Array) -> Array:
    height, width = images[0].shape
    box_height, box_width = templates[0].shape
    x, y = np.rint(last[:2]).astype(int)
    left, top = max(0, x - int(SEARCH_RADIUS * box_width)), max(0, y - int(SEARCH_RADIUS * box_height))
    right, bottom = (
        min(width, x + int((1 + SEARCH_RADIUS) * box_width)),
        min(height, y + int((1 + SEARCH_RADIUS) * box_height)),
    )
    if right - left < box_width or bottom - top < box_height:
        return last
    scores = [
        cv2.matchTemplate(image[top:bottom, left:right], template, cv2.TM_CCOEFF_NORMED)
        for image, template in zip(images, templates, strict=True)
    ]
    row, column = np.unravel_index(int(np.mean(scores, axis=0).argmax()), scores[0].shape)
    return np.array([left + column, top + row, box_width, box_height], dtype=np.float64)


def _gray(frame: FramePair, sides: tuple[int, ...]) -> list[Image]:
    images = [frame[side] for side in sides]
    return [
        np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8) for image in images if image is not None
    ]


def _cut(image: Image, box: Array) -> Image:
    x, y, w, h = box.astype(int)
    return image[max(0, y) : y + h, max(0, x) : x + w]


def make(out: Path) -> int:
    """Track and write the page without its plot files; return the command's exit status."""
    with TemporaryDirectory() as folder:
        for sequence in synthetic_sequences(NUM_VIDEOS, seed=SEED):
            for name, sides in TRACKERS.items():
                write_boxes(Path(folder) / name / f"{sequence.name}.txt", track(sequence, sides))
        page = Path(folder) / "page" / out.name
        folders = [str(Path(folder) / name) for name in TRACKERS]
        options = [
            "--benchmark",
            "synthetic",
            "--count",
            str(NUM_VIDEOS),
            "--seed",
            str(SEED),
            "--examples",
            str(CLOSEUPS),
        ]
        status = main(["report", *folders, *options, "--title", TITLE, "--out", str(page)])
        if status == 0:
            write_text(out, page.read_text("utf-8"))
        return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT, help="the page; default docs/sample_report.html")
    sys.exit(make(parser.parse_args().out))
