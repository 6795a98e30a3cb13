"""A folder that lies as LasHeR's training part does, of any size and without a picture in it: what opening looks at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mmdistill.toolkit.box_files import write_boxes


def write_lasher(root: Path, folders: int, frames: int) -> str:
    """Write ``frames`` pairs of empty images in all, and their boxes; return what ``--data`` takes.

    The images of a folder are one file under many names, so that the copy takes little more room than the names.
    """
    generator = np.random.default_rng(0)
    for number, length in enumerate(_shares(frames, folders)):
        folder = root / "trainingset" / f"sequence{number:04d}"
        for side in ("visible", "infrared"):
            (folder / side).mkdir(parents=True)
            first, *rest = (f"{folder}/{side}/{side[0]}{frame:06d}.jpg" for frame in range(length))
            Path(first).touch()
            for name in rest:
                os.link(first, name)
        boxes = generator.integers(1, 400, (length, 4))
        write_boxes(folder / "visible.txt", boxes, decimals=0)
        write_boxes(folder / "infrared.txt", boxes, decimals=0)
        write_boxes(folder / "init.txt", boxes[:1], decimals=0)
    return f"lasher:{root}"


def _shares(total: int, parts: int) -> list[int]:
    return [total // parts + (part < total % parts) for part in range(parts)]
