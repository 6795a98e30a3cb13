"""The ground truth of a benchmark for a report: boxes, attributes and, where they are at hand, images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdistill.reference.data.benchmarks import BenchmarkName, Coverage, open_usable
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.evaluation.scoring import truths_of
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.report.contents import Truth


def known_of(sequences: Iterable[TrackingSequence], *, images: bool) -> dict[str, Truth]:
    """Return what is known of sequences by name; a frame is read when it is asked for."""
    return {
        each.name: Truth(truths_of(each), each.attributes, each.frame if images else None)
        for each in sequences
        if len(each)
    }


def read_part(
    benchmark: BenchmarkName, annotations: Path | None, root: Path | None, oddities: Oddities, **options: Any
) -> tuple[dict[str, Truth], Coverage]:
    """Read a benchmark's annotations, or all of it, or annotations here and images there.

    Args:
        benchmark: which.
        annotations: its folder of annotations, images or not.
        root: its folder with images; the annotations in it count where no others are given.
        oddities: where is noted what is odd.
        options: as ``open_benchmark`` takes them.

    Returns:
        What is known of each sequence by name, and which part of the benchmark they are.

    Raises:
        DataError: a folder or a file is missing or malformed, or no sequence can be used.
    """
    found: dict[str, Truth] = {}
    coverage = Coverage(benchmark, 0)
    for folder, images in ((root, True), (annotations, False)):
        if folder is None:
            continue
        opened = open_usable(benchmark, folder, oddities, images=images, **options)
        coverage = opened.coverage
        pictured, found = found, known_of(opened.sequences, images=images)
        found = {name: _with_images(truth, pictured.get(name)) for name, truth in found.items()}
    return found, coverage


def _with_images(truth: Truth, pictured: Truth | None) -> Truth:
    if pictured is None:
        return truth
    return replace(truth, attributes=truth.attributes or pictured.attributes, frame=pictured.frame)
