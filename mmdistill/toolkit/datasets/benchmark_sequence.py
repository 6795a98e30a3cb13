"""Reads a sequence of a benchmark: ground truth, initial box, attributes, and frames if needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_rows, to_boxes
from mmdistill.toolkit.boxes import Array, from_corners
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.sequence_search import SequenceFiles
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.sequence import Boxes, FramePair
from mmdistill.toolkit.video import Frames, ImageFolder, pair_files

EMPTY_LINES = "ground truth with empty lines, which are frames without a label"
UNEQUAL_LENGTHS = "ground truths of RGB and TIR of different length; a frame with one box is scored by that box"
MISSING_IMAGES = "missing images between others; the other modality is used"
OTHER_INITIAL_BOX = "init.txt differs from the first box of the ground truth; trackers start from init.txt"


class BenchmarkSequence:
    """A sequence of a benchmark; a ``TrackingSequence``.

    It has as many frames as its ground truth. Where a modality has no image, trackers use the other one. Images after
    the last box are left out.

    Args:
        files: files of the sequence.
        attributes: a flag for each attribute.
        images: whether frames are needed; the ground truth is enough for scoring.
        data_issues: receives data issues.

    Raises:
        DataError: a file of boxes is missing or malformed, a modality has no images, or more than one frame with a box
            has no image.

    Attributes:
        name: name of the sequence.
        truths: the ground truth ``(T, 4)``, ``x y w h``: one, or RGB's and TIR's; NaN where a frame has no label.
        initial: the initial box ``(4,)`` of trackers.
    """

    def __init__(
        self,
        files: SequenceFiles,
        *,
        attributes: Mapping[str, bool] | None = None,
        images: bool = True,
        data_issues: DataIssues | None = None,
    ) -> None:
        self.name = files.name
        self._files = files
        self._flags = dict(attributes or {})
        self._data_issues = data_issues = DataIssues() if data_issues is None else data_issues
        if isinstance(files.labels, DataError):
            raise files.labels
        labels = [_read_labels(path, files, data_issues) for path in files.annotations]
        frames = max(map(len, self.images)) if images else 0
        truths = [
            _spread_labels(each, frames, path, files.every)
            for each, path in zip(labels, files.annotations, strict=True)
        ]
        self.truths = _equalize_lengths(truths, files, data_issues)
        self.initial = _read_initial_box(files, self.truths, data_issues)
        if images and frames < len(self) - 1 and files.every == 1:
            raise DataError(f"sequence {self.name}: expected an image for each of {len(self)} boxes, got {frames}")

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)`` for tracking and training: the initial box, then RGB's or else TIR's boxes."""
        boxes: Boxes = self.truths[0].copy()
        boxes[0] = self.initial
        return boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """A flag per frame ``(T,)`` for each attribute, equal for all frames."""
        return {name: np.full(len(self), flag) for name, flag in self._flags.items()}

    def __len__(self) -> int:
        return len(self.truths[0])

    def frame(self, index: int) -> FramePair:
        """Return the frame pair ``index`` (from 0); a modality without an image is None."""
        return self._frames.frame(index)

    @cached_property
    def images(self) -> Pair[Sequence[Path | None]]:
        """Images of each modality, None for a missing one between others; empty without the modality.

        Raises:
            DataError: a modality of the benchmark is missing.
        """
        rgb, tir = (None if folder is None else list_images(folder) for folder in self._files.images)
        if rgb is not None and tir is not None:
            return pair_files(rgb, tir, partial(self._data_issues.add, MISSING_IMAGES))
        return Pair(rgb or [], tir or [])

    @cached_property
    def _frames(self) -> Frames:
        folders, where = self._files.images, Pair(*map(str, self._files.images))
        sources = (
            None if folder is None else ImageFolder(folder, _cut_or_pad(images, len(self)))
            for folder, images in zip(folders, self.images, strict=True)
        )
        return Frames(*sources, where=where)


def _read_labels(path: Path, files: SequenceFiles, data_issues: DataIssues) -> Boxes:
    if isinstance(files.labels, np.ndarray):
        return files.labels
    rows = read_rows(path, empty="nan")
    if not np.isfinite(rows).all():
        data_issues.add(EMPTY_LINES, f"{path}: {(~np.isfinite(rows).all(axis=1)).sum()}")
    return from_corners(rows) if files.corners and rows.shape[1] == 4 else to_boxes(rows)


def _spread_labels(labels: Boxes, frames: int, path: Path, every: int) -> Boxes:
    """Return boxes ``(T, 4)``: the labels on each ``every``-th frame and NaN between, unless all frames have labels.

    Args:
        labels: boxes in the file.
        frames: number of images; 0 if unknown.
        path: the file.
        every: see ``SequenceFiles``.
    """
    if every == 1 or (frames and abs(frames - len(labels)) <= 1):
        return labels
    if frames and abs(-(-frames // every) - len(labels)) > 1:
        expected = f"a box for each of {frames} frames, or for one of {every}"
        raise DataError(f"{path}: expected {expected}, got {len(labels)}")
    last = every * (len(labels) - 1)
    boxes = np.full((max(frames, last + 1) if frames else every * len(labels), 4), np.nan)
    boxes[: last + 1 : every] = labels
    return boxes


def _equalize_lengths(truths: Sequence[Boxes], files: SequenceFiles, data_issues: DataIssues) -> tuple[Boxes, ...]:
    """Return ground truths of the length of the longest, NaN at the end of the others."""
    lengths = [len(each) for each in truths]
    if len(set(lengths)) > 1:
        data_issues.add(UNEQUAL_LENGTHS, f"{files.name}: {lengths[0]} and {lengths[1]}")
    return tuple(np.concatenate([each, np.full((max(lengths) - len(each), 4), np.nan)]) for each in truths)


def _read_initial_box(files: SequenceFiles, truths: Sequence[Boxes], data_issues: DataIssues) -> Array:
    """Return the first box of ``init.txt``, or of the ground truth without that file."""
    if files.init is None or not files.init.is_file():
        return np.array(truths[0][0])
    initial: Array = to_boxes(read_rows(files.init))[0]
    if not np.allclose(initial, truths[0][0]):
        firsts = [f"{path.name} {_format_box(truth[0])}" for path, truth in zip(files.annotations, truths, strict=True)]
        data_issues.add(OTHER_INITIAL_BOX, f"{files.name}: {_format_box(initial)}; first of {', of '.join(firsts)}")
    return initial


def _cut_or_pad(images: Sequence[Path | None], length: int) -> Sequence[Path | None]:
    return images[:length] if len(images) >= length else [*images, *[None] * (length - len(images))]


def _format_box(box: Array) -> str:
    return ",".join(f"{value:g}" for value in box)
