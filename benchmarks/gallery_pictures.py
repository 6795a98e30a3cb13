"""Makes the pictures of the gallery from the folder of a finished ``mmdistill demo`` with seed 0.

Writes demo.gif (both students and the label on the hardest test video), response_maps.jpg (two frames of it, tracked
again by the distilled student) and demo_success.png. The committed ones are from one CPU thread. Takes 10 seconds on
one core.

Example:
    OMP_NUM_THREADS=1 mmdistill demo --out runs/demo
    OMP_NUM_THREADS=1 python benchmarks/gallery_pictures.py --demo runs/demo
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from mmdistill.reference.demo.experiment import TEST_SEED_OFFSET, DemoSettings
from mmdistill.reference.demo.report import hardest_sequence, write_video
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.tracking.tracker import Tracker
from mmdistill.toolkit.box_files import read_boxes
from mmdistill.toolkit.drawing import choose_panels, draw_frame_pair
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.io import atomic_path
from mmdistill.toolkit.sequence import Image, TrackingSequence
from mmdistill.toolkit.tracking_loop import as_reading, track_video

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
STUDENTS = ("student", "distilled student")
STRIDE = 2
"""The GIF has every second frame, because it is part of the repository."""

MAP_FRAMES = (5, 25)
"""The frames of response_maps.jpg, from 0."""


def test_video(seed: int) -> TrackingSequence:
    """Return the hardest test video of the demo."""
    settings = DemoSettings()
    sequences = synthetic_sequences(settings.test_sequences, seed=seed + TEST_SEED_OFFSET, settings=settings.video)
    return hardest_sequence(sequences)


def response_maps(weights: Path, sequence: TrackingSequence, seed: int) -> Image:
    """Return frames with the response map of a tracker, one below the other ``(rows, columns, 3)``."""
    readings = (as_reading(sequence.frame(index)) for index in range(max(MAP_FRAMES) + 1))
    pictures = [
        draw_frame_pair(
            tracked.reading.images,
            {STUDENTS[1]: tracked.box},
            truth=sequence.boxes[tracked.number - 1],
            score=tracked.score,
            flag=tracked.flag,
            response=tracked.response,
            caption=f"frame {tracked.number} of {len(sequence)}",
            panels=choose_panels(True, True, True),
        )
        for tracked in track_video(Tracker.load(weights, device="cpu", seed=seed), readings, sequence.boxes[0])
        if tracked.number - 1 in MAP_FRAMES
    ]
    return np.concatenate(pictures)


def make(demo: Path, out: Path, seed: int) -> None:
    """Write the pictures of a demo's folder."""
    sequence = test_video(seed)
    folders = {name: demo / name.replace(" ", "_") for name in STUDENTS}
    boxes = {name: read_boxes(folder / "results" / f"{sequence.name}.txt") for name, folder in folders.items()}
    write_video(out / "demo.gif", boxes, sequence, stride=STRIDE)
    maps = response_maps(folders[STUDENTS[1]] / "network.safetensors", sequence, seed)
    write_image(out / "response_maps.jpg", maps)
    with atomic_path(out / "demo_success.png") as temporary:
        shutil.copyfile(demo / "success.png", temporary)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, required=True, help="folder of a finished `mmdistill demo`")
    parser.add_argument("--seed", type=int, default=0, help="seed of the demo; default 0")
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder of the pictures; default docs/pictures")
    arguments = parser.parse_args()
    make(arguments.demo, arguments.out, arguments.seed)
