"""A sequence of a benchmark: ground truth, the box to start from, and frames where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_rows, to_boxes
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.layout import SequenceFiles
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.sequence import Boxes, FramePair
from mmdistill.toolkit.video import Frames, ImageFolder, pair_files

EMPTY_LINES = "ground truth with empty lines, which are frames without a label"
UNEQUAL_TRUTHS = "ground truths of RGB and TIR differ in length, a frame with one box is scored by that one"
LOST = "images lost between others; the other modality stands in"
OTHER_START = "init.txt is not the first box of the ground truth; trackers start from init.txt"


class BenchmarkSequence:
    """A sequence of a benchmark; a ``TrackingSequence``.

    Its length is that of the ground truth. A frame that a modality has no image for is tracked on the other one;
    images after the last box are left out.

    Args:
        files: where everything lies.
        attributes: which attributes the whole sequence has.
        images: whether frames are wanted; without them, the ground truth is enough.
        data_issues: where is noted what is odd but has a rule.

    Raises:
        DataError: a file of boxes is missing or malformed; where frames are wanted, a modality has none, or both
            together have fewer than all but one of the frames that have boxes.

    Attributes:
        name: the sequence's.
        truths: the ground truth ``(T, 4)``, ``x y w h``: one, or RGB's and TIR's; NaN where a frame has no label.
        initial: the box ``(4,)`` that a tracker starts from.
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
        self._oddities = data_issues = DataIssues() if data_issues is None else data_issues
        if isinstance(files.labels, DataError):
            raise files.labels
        labels = [_read_truth(path, files, data_issues) for path in files.truths]
        frames = max(map(len, self.images)) if images else 0
        spread = [_spread(each, frames, path, files.every) for each, path in zip(labels, files.truths, strict=True)]
        self.truths = _of_one_length(spread, files, data_issues)
        self.initial = _initial(files, self.truths, data_issues)
        if images and frames < len(self) - 1 and files.every == 1:
            raise DataError(f"sequence {self.name}: expected an image for each of {len(self)} boxes, got {frames}")

    @property
    def boxes(self) -> Boxes:
        """What a tracker starts from and training learns from ``(T, 4)``: RGB's boxes, or TIR's where it is alone."""
        boxes: Boxes = self.truths[0].copy()
        boxes[0] = self.initial
        return boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """For each attribute a flag per frame, all alike."""
        return {name: np.full(len(self), flag) for name, flag in self._flags.items()}

    def __len__(self) -> int:
        return len(self.truths[0])

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` (from 0); a modality without an image is None."""
        return self._frames.frame(index)

    @cached_property
    def images(self) -> Pair[Sequence[Path | None]]:
        """Each modality's images, None where one between others is lost; empty where the benchmark has none.

        Raises:
            DataError: a modality that the benchmark has is missing.
        """
        rgb, tir = (None if folder is None else list_images(folder) for folder in self._files.images)
        if rgb is not None and tir is not None:
            return pair_files(rgb, tir, partial(self._oddities.add, LOST))
        return Pair(rgb or [], tir or [])

    @cached_property
    def _frames(self) -> Frames:
        folders, where = self._files.images, Pair(*map(str, self._files.images))
        sources = (
            None if folder is None else ImageFolder(folder, _cut_or_filled(images, len(self)))
            for folder, images in zip(folders, self.images, strict=True)
        )
        return Frames(*sources, where=where)


def _read_truth(path: Path, files: SequenceFiles, data_issues: DataIssues) -> Boxes:
    if isinstance(files.labels, np.ndarray):
        return files.labels
    rows = read_rows(path, empty="nan")
    if not np.isfinite(rows).all():
        data_issues.add(EMPTY_LINES, f"{path}: {(~np.isfinite(rows).all(axis=1)).sum()}")
    if files.corners and rows.shape[1] == 4:
        return np.concatenate([rows[:, :2], rows[:, 2:] - rows[:, :2]], axis=1)
    return to_boxes(rows)


def _spread(labels: Boxes, frames: int, path: Path, every: int) -> Boxes:
    """Return boxes ``(T, 4)``, NaN between those of each ``every``-th frame, unless there is one for each frame.

    Args:
        labels: what the file holds.
        frames: how many images there are; 0 if nobody knows.
        path: the file.
        every: as in ``SequenceFiles``.
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


def _of_one_length(truths: Sequence[Boxes], files: SequenceFiles, data_issues: DataIssues) -> tuple[Boxes, ...]:
    lengths = [len(each) for each in truths]
    if len(set(lengths)) > 1:
        data_issues.add(UNEQUAL_TRUTHS, f"{files.name}: {lengths[0]} and {lengths[1]}")
    return tuple(_lengthened(each, max(lengths)) for each in truths)


def _lengthened(boxes: Boxes, length: int) -> Boxes:
    return np.concatenate([boxes, np.full((length - len(boxes), 4), np.nan)])


def _initial(files: SequenceFiles, truths: Sequence[Boxes], data_issues: DataIssues) -> Array:
    """Return the box to start from: the first of ``init.txt`` where there is one, else of the ground truth."""
    if files.init is None or not files.init.is_file():
        return np.array(truths[0][0])
    initial: Array = to_boxes(read_rows(files.init))[0]
    if not np.allclose(initial, truths[0][0]):
        firsts = [f"{path.name} {_shown(truth[0])}" for path, truth in zip(files.truths, truths, strict=True)]
        data_issues.add(OTHER_START, f"{files.name}: {_shown(initial)}; first of {', of '.join(firsts)}")
    return initial


def _cut_or_filled(images: Sequence[Path | None], length: int) -> Sequence[Path | None]:
    return images[:length] if len(images) >= length else [*images, *[None] * (length - len(images))]


def _shown(box: Array) -> str:
    return ",".join(f"{value:g}" for value in box)
