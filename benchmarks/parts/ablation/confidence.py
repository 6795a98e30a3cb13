"""How sure a tracker is, and whether rightly: its scores on the target and beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mmdistill.reference.tracking.settings import LocalizationSettings
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.evaluation.metrics import best_overlaps
from mmdistill.toolkit.sequence import Boxes, TrackingSequence

FOLLOWED = 0.5
"""IoU from which on a box is on the target."""

CONFIDENCE = "tracker's score"
"""What reports call it."""

NAMES = ("on target", "off target", "not found")
"""Its parts."""


def confidence(
    boxes: Mapping[str, Boxes], scores: Mapping[str, Array], sequences: Sequence[TrackingSequence]
) -> dict[str, float | None]:
    """Return the mean score on the target and off it, and the percentage of frames whose score says "not found".

    The first frame, which is given, and frames without a label don't count. A mean over no frame is None.

    Args:
        boxes: what was tracked, by sequence.
        scores: the tracker's own, by sequence: the highest of each frame's score map.
        sequences: with the labels.
    """
    found, sure = [], []
    for sequence in sequences:
        overlap = best_overlaps(boxes[sequence.name], [sequence.boxes])[1:]
        labeled = ~np.isnan(overlap)
        found.append(overlap[labeled])
        sure.append(scores[sequence.name][1:][labeled])
    overlap, score = np.concatenate(found), np.concatenate(sure)
    parts = (score[overlap >= FOLLOWED], score[overlap < FOLLOWED], 100 * (score < LocalizationSettings().not_found))
    return {name: round(float(part.mean()), 4) if part.size else None for name, part in zip(NAMES, parts, strict=True)}


def read_confidences(folder: Path, sequences: Sequence[TrackingSequence]) -> dict[str, Array]:
    """Return each sequence's scores, as a run wrote them beside its boxes."""
    written = {each.name: json.loads((folder / f"{each.name}.json").read_text()) for each in sequences}
    return {name: np.asarray(each["scores"]) for name, each in written.items()}
