"""A small benchmark with odd names, attributes and images, and three made-up trackers' raw results on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.datasets.folder_sequence import write_sequence

NAMES = ("it's`raining", "a<b>&amp;c", 'man "x" walks', "car10", "car2", "$x$")
TRACKERS = ("O'Neill & <b>co", "student", "`v2`")
ATTRIBUTES = {
    "it's`raining": ("OCC", "TC"),
    "a<b>&amp;c": ("OCC",),
    'man "x" walks': ("OCC", "<LI>"),
    "car10": ("TC", "OCC"),
    "car2": ("TC",),
    "$x$": (),
}
VIDEO = SyntheticSettings(size=(160, 120), target_size=(24.0, 32.0), length=30)


class Benchmark(NamedTuple):
    """Where it lies, and what is in it."""

    sequences: Path
    results: tuple[Path, ...]
    truths: dict[str, np.ndarray]
    boxes: dict[str, dict[str, np.ndarray]]
    attributes: dict[str, tuple[str, ...]]


@pytest.fixture(scope="session")
def small_benchmark(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    root = tmp_path_factory.mktemp("benchmark")
    generator = np.random.default_rng(7)
    truths, boxes = {}, {tracker: {} for tracker in TRACKERS}
    videos = synthetic_sequences(len(NAMES), seed=5, settings=VIDEO)
    for place, (name, sequence) in enumerate(zip(NAMES, videos, strict=True)):
        write_sequence(sequence, root / "sequences" / name, suffix=".jpg")
        flags = {each: [int(each in ATTRIBUTES[name])] * len(sequence) for each in ("OCC", "TC", "<LI>", "never")}
        (root / "sequences" / name / "attributes.json").write_text(json.dumps(flags))
        truths[name] = sequence.boxes
        for number, tracker in enumerate(TRACKERS):
            found = sequence.boxes + generator.normal(0, 0.5 + number, sequence.boxes.shape)
            if number != 1 and place % 2 == number // 2:
                found[12 + place :] = [2.0, 3.0, 10.0, 10.0]  # lost for good
            found[:, 2:] = np.maximum(found[:, 2:], 3)
            boxes[tracker][name] = found.round(3)
            write_boxes(root / "results" / tracker / f"{name}.txt", boxes[tracker][name])
    results = tuple(root / "results" / tracker for tracker in TRACKERS)
    return Benchmark(root / "sequences", results, truths, boxes, ATTRIBUTES)
