"""Reads and writes sequence folders in the style of VOT and OTB: frames and an annotation in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.image_files import IGNORED, SUFFIXES, is_ignored, sort_naturally
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.io import read_json, remove_leftovers, temporary_path, write_text
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence
from mmdistill.toolkit.video import Frames, drop_uncovered, open_frames

ANNOTATIONS = ("groundtruth.txt", "groundtruth_rect.txt")
"""Names of the annotation in a sequence folder."""

ATTRIBUTES = "attributes.json"
"""Name of the file of attributes in a sequence folder."""

MODALITY_FOLDERS = Pair(rgb=("rgb", "visible", "color"), tir=("tir", "infrared", "ir", "lwir"))
"""Names of each modality's folder of frames in a sequence folder."""

NO_SEQUENCE = "folders without frames and annotation, skipped"


class FolderSequence:
    """A sequence folder: ``groundtruth.txt`` or ``groundtruth_rect.txt``, and images.

    Images of both modalities are in two sub-folders (``rgb`` and ``tir``, ``visible`` and ``infrared``, ``color`` and
    ``ir``). Images of one modality are in ``img`` or in the folder itself. ``attributes.json`` is optional.

    Args:
        folder: the sequence folder; the sequence has its name.
        modality: modality of the images of a sequence of one modality.
        alignment: how the cameras agree; boxes are in RGB's frame. TIR is None where it does not cover the target.

    Raises:
        DataError: a modality's folder is missing, the modalities have different numbers of frames, there are more boxes
            than frames, or a file is malformed.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        modality: Literal["rgb", "tir"] = "rgb",
        alignment: Alignment | None = None,
    ) -> None:
        self.folder = Path(folder)
        annotation = find_annotation(self.folder)
        if annotation is None:
            raise DataError(f"{self.folder}: expected a sequence folder with {' or '.join(ANNOTATIONS)}")
        self._frames = _open_frames(self.folder, modality, alignment)
        self._boxes = _pad_boxes(read_boxes(annotation), len(self), annotation)
        attributes = self.folder / ATTRIBUTES
        self._attributes = read_attributes(attributes, len(self)) if attributes.exists() else {}

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.resolve().name

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)``, ``x y w h``; NaN after the last annotated frame."""
        return self._boxes

    @property
    def truths(self) -> tuple[Boxes, ...]:
        """Ground truth for scoring: the boxes, which both modalities share."""
        return (self._boxes,)

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """A flag per frame ``(T,)`` for each attribute."""
        return self._attributes

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> FramePair:
        """Return the frame pair ``index`` (from 0); a modality without a folder is None."""
        return drop_uncovered(self._frames.read(index), self._boxes[index]).images


def _open_frames(folder: Path, modality: Literal["rgb", "tir"], alignment: Alignment | None) -> Frames:
    modalities = modality_folders(folder)
    if modalities is not None:
        return open_frames(*modalities, alignment=alignment)
    if alignment is not None:
        raise DataError(f"{folder}: expected RGB and TIR folders for {alignment.where}, got frames of one modality")
    images = folder / "img" if (folder / "img").is_dir() else folder
    return open_frames(images) if modality == "rgb" else open_frames(tir=images)


def _pad_boxes(boxes: Boxes, length: int, annotation: Path) -> Boxes:
    """Return boxes ``(T, 4)`` for ``length`` frames, NaN after the last box."""
    if len(boxes) > length:
        raise DataError(f"{annotation}: expected at most a box for each of {length} frames, got {len(boxes)}")
    unlabeled = np.full((length - len(boxes), 4), np.nan)
    return np.concatenate([boxes, unlabeled])


def find_annotation(folder: str | Path) -> Path | None:
    """Return the annotation of a sequence folder, or None."""
    return next((path for name in ANNOTATIONS if (path := Path(folder) / name).is_file()), None)


def modality_folders(folder: str | Path) -> Pair[Path] | None:
    """Return the RGB and the TIR folder in a sequence folder, or None if it has neither.

    Raises:
        DataError: one of the two is missing.
    """
    folder = Path(folder)
    rgb, tir = (next((folder / name for name in names if (folder / name).is_dir()), None) for names in MODALITY_FOLDERS)
    if rgb is None and tir is None:
        return None
    if rgb is None or tir is None:
        present, missing = (rgb, "TIR") if rgb else (tir, "RGB")
        names = ", ".join(MODALITY_FOLDERS.tir if rgb else MODALITY_FOLDERS.rgb)
        raise DataError(f"{present}: expected the {missing} folder beside it ({names}), there is none")
    return Pair(rgb, tir)


def is_sequence(folder: Path) -> bool:
    """Return whether a folder has an annotation or frames."""
    if find_annotation(folder) is not None:
        return True
    folders_of_frames = {"img", *MODALITY_FOLDERS.rgb, *MODALITY_FOLDERS.tir}
    entries = (path for path in folder.iterdir() if not is_ignored(path))
    return any(path.suffix.lower() in SUFFIXES or path.name in folders_of_frames for path in entries)


def read_sequences(
    root: str | Path,
    *,
    modality: Literal["rgb", "tir"] = "rgb",
    data_issues: DataIssues | None = None,
    alignment: Alignment | None = None,
) -> list[FolderSequence]:
    """Return the sequences in a folder in natural order, or ``root`` itself if it is a sequence folder.

    Hidden and system entries, and folders without frames and annotation, are skipped.

    Args:
        root: the folder.
        modality: modality of the images of sequences of one modality.
        data_issues: receives the skipped entries.
        alignment: how the cameras of all sequences agree.

    Raises:
        DataError: there is no sequence, or a sequence lacks its frames or its annotation.
    """
    data_issues = DataIssues() if data_issues is None else data_issues
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of sequences, there is none")
    if find_annotation(root) is not None:
        return [FolderSequence(root, modality=modality, alignment=alignment)]
    folders, others = [], []
    for entry in sorted(root.iterdir()):
        if is_ignored(entry):
            data_issues.add(IGNORED, entry.name)
        elif entry.is_dir() and is_sequence(entry):
            folders.append(entry)
        elif entry.is_dir():
            others.append(entry)
            data_issues.add(NO_SEQUENCE, entry.name)
    if not folders:
        if others:
            raise DataError(f"{others[0]}: expected a sequence folder with {' or '.join(ANNOTATIONS)}")
        raise DataError(f"{root}: expected sequence folders with {' or '.join(ANNOTATIONS)}, there are none")
    folders = sort_naturally(folders, lambda folder: folder.name, str(root))
    return [FolderSequence(folder, modality=modality, alignment=alignment) for folder in folders]


def write_sequence(
    sequence: TrackingSequence,
    folder: str | Path,
    *,
    suffix: str = ".png",
    after_frame: Callable[[], object] = lambda: None,
) -> None:
    """Write a sequence folder that ``FolderSequence`` reads; the folder appears once it is complete.

    Args:
        sequence: frames of both modalities go to ``rgb`` and ``tir``, those of one to ``img``.
        folder: a new or empty folder.
        suffix: ``.png`` is lossless, ``.jpg`` is smaller.
        after_frame: called after each frame, to show progress.

    Raises:
        DataError: the folder is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: expected a new or empty folder to write the sequence to")
    remove_leftovers(folder)
    temporary = temporary_path(folder)
    try:
        _write_files(sequence, temporary, suffix, after_frame)
        if folder.exists():
            folder.rmdir()  # not every operating system replaces an empty folder
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(sequence: TrackingSequence, folder: Path, suffix: str, after_frame: Callable[[], object]) -> None:
    for index in range(len(sequence)):
        rgb, tir = sequence.frame(index)
        names = Pair("rgb" if tir is not None else "img", "tir" if rgb is not None else "img")
        for name, image in zip(names, (rgb, tir), strict=True):
            if image is not None:
                write_image(folder / name / f"{index + 1:08d}{suffix}", image)
        after_frame()
    if sequence.attributes:
        write_attributes(folder / ATTRIBUTES, sequence.attributes)
    write_boxes(folder / ANNOTATIONS[0], sequence.boxes)


def read_attributes(path: str | Path, length: int) -> dict[str, NDArray[np.bool_]]:
    """Read ``{name: [0 or 1 per frame]}`` for a sequence of ``length`` frames.

    Raises:
        DataError: the file is malformed.
    """
    path = Path(path)
    content = read_json(path)
    for name, flags in content.items():
        if not isinstance(flags, list) or len(flags) != length or any(flag not in (0, 1) for flag in flags):
            raise DataError(f"{path}: expected {length} flags 0 or 1 for {name!r}, one per frame")
    return {name: np.array(flags, dtype=bool) for name, flags in content.items()}


def write_attributes(path: str | Path, attributes: dict[str, NDArray[np.bool_]]) -> None:
    """Write a flag per frame for each attribute, in the format of ``read_attributes``."""
    write_text(path, json.dumps({name: flags.astype(int).tolist() for name, flags in attributes.items()}))
