"""The ground truth of a benchmark for a report: boxes, attributes and, where they are at hand, images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from mmdistill.reference.data.attributes import read_attributes
from mmdistill.reference.data.folders import ATTRIBUTES, read_ground_truth, read_sequences
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.report.contents import Truth


def truths_of(sequences: Sequence[TrackingSequence]) -> dict[str, Truth]:
    """Return what is known of sequences, images included; a frame is read when it is asked for."""
    return {
        sequence.name: Truth((sequence.boxes,), sequence.attributes, sequence.frame)
        for sequence in sequences
        if len(sequence)
    }


def read_truths(
    annotations: Path | None, root: Path | None, *, modality: Literal["rgb", "tir"] = "rgb"
) -> dict[str, Truth]:
    """Read a folder of annotations, or of whole sequences, or annotations here and images there.

    Args:
        annotations: ``<sequence>.txt`` files or sequence folders, images or not.
        root: folder of the sequences with images; annotations in it count where no others are given.
        modality: what the images of single-modality sequences are.

    Raises:
        DataError: a folder or a file is missing or malformed.
    """
    pictured = {} if root is None else truths_of(read_sequences(root, modality=modality))
    if annotations is None:
        return pictured
    return {name: _with_images(truth, pictured.get(name)) for name, truth in _annotated(annotations).items()}


def _annotated(folder: Path) -> Mapping[str, Truth]:
    truths = {}
    for name, boxes in read_ground_truth(folder).items():
        attributes = folder / name / ATTRIBUTES
        truths[name] = Truth((boxes,), read_attributes(attributes, len(boxes)) if attributes.is_file() else {})
    return truths


def _with_images(truth: Truth, pictured: Truth | None) -> Truth:
    if pictured is None:
        return truth
    return replace(truth, attributes=truth.attributes or pictured.attributes, frame=pictured.frame)
