"""Sequences as folders, the VOT and OTB way: frames and an annotation file side by side.

The two folders, one per modality, in which RGB-T data lies.

Attributes in JSON, a flag per frame each.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.box_files import read_boxes, write_boxes
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.image_files import SUFFIXES, sort_naturally
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.io import read_json, remove_leftovers, temporary_path, write_text
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence
from mmdistill.toolkit.video import Frames, open_frames


def read_attributes(path: str | Path, length: int) -> dict[str, NDArray[np.bool_]]:
    """Read ``{name: [0 or 1 per frame]}`` for a sequence of ``length`` frames.

    Raises:
        DataError: the file is not that.
    """
    path = Path(path)
    content = read_json(path)
    for name, flags in content.items():
        if not isinstance(flags, list) or len(flags) != length or any(flag not in (0, 1) for flag in flags):
            raise DataError(f"{path}: expected {length} flags 0 or 1 for {name!r}, one a frame")
    return {name: np.array(flags, dtype=bool) for name, flags in content.items()}


def write_attributes(path: str | Path, attributes: dict[str, NDArray[np.bool_]]) -> None:
    """Write attributes, a flag per frame each, as ``read_attributes`` reads them."""
    write_text(path, json.dumps({name: flags.astype(int).tolist() for name, flags in attributes.items()}))


NAMES = Pair(rgb=("rgb", "visible", "color"), tir=("tir", "infrared", "ir", "lwir"))


def modality_folders(folder: str | Path) -> Pair[Path] | None:
    """Return a folder's RGB and TIR sub-folders, or None where it has neither.

    Raises:
        DataError: only one of the two is there.
    """
    folder = Path(folder)
    rgb, tir = (next((folder / name for name in names if (folder / name).is_dir()), None) for names in NAMES)
    if rgb is None and tir is None:
        return None
    if rgb is None or tir is None:
        there, missing = (rgb, "TIR") if rgb else (tir, "RGB")
        names = ", ".join(NAMES.tir if rgb else NAMES.rgb)
        raise DataError(f"{there}: its {missing} partner is missing, expected a folder beside it named {names}")
    return Pair(rgb, tir)


ANNOTATIONS = ("groundtruth.txt", "groundtruth_rect.txt")
ATTRIBUTES = "attributes.json"

STRAY_NAMES = frozenset(
    {"__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found"}
    | {"desktop.ini", "ehthumbs.db", "system volume information", "thumbs.db"}
)
"""Files and folders that operating systems, network drives and notebooks leave among data, in small letters."""

STRAY = "files and folders that a system left among the data, passed over"
"""The data issue under which stray entries are listed."""

NO_SEQUENCE = "folders with neither frames nor an annotation, passed over"


def is_stray(path: str | Path) -> bool:
    """Return whether a file or folder is no data by its name: hidden, or left by a system (``__MACOSX``, ``@eaDir``).

    Every search for sequences, pairs and images passes over such entries. Only the last part of the path counts.
    """
    name = Path(path).name
    return name.startswith(".") or name.casefold() in STRAY_NAMES


class FolderSequence:
    """A sequence folder: ``groundtruth.txt`` or ``groundtruth_rect.txt``, and images.

    Images of both modalities lie in two sub-folders (``rgb`` and ``tir``, ``visible`` and ``infrared``, ``color``
    and ``ir``); those of one modality lie in ``img`` or in the folder itself. ``attributes.json`` is optional.

    Args:
        folder: the sequence's folder; its name is the sequence's.
        modality: what the images are where they are of one modality.

    Raises:
        DataError: a modality's folder is missing, the frame counts differ, there are more boxes than frames,
            or a file is malformed.
    """

    def __init__(self, folder: str | Path, *, modality: Literal["rgb", "tir"] = "rgb") -> None:
        self.folder = Path(folder)
        self._annotation = find_annotation(self.folder)
        if self._annotation is None:
            raise DataError(f"{self.folder}: expected a sequence's folder with {' or '.join(ANNOTATIONS)}")
        self._frames = _frames(self.folder, modality)
        self._boxes = _one_per_frame(read_boxes(self._annotation), len(self), self._annotation)
        attributes = self.folder / ATTRIBUTES
        self._attributes = read_attributes(attributes, len(self)) if attributes.exists() else {}

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def boxes(self) -> Boxes:
        """Ground truth ``(T, 4)``, ``x y w h``; NaN after the last annotated frame."""
        return self._boxes

    @property
    def truths(self) -> tuple[Boxes, ...]:
        """The ground truth that it is scored by: its boxes, which both modalities share."""
        return (self._boxes,)

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """For each attribute a flag per frame."""
        return self._attributes

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> FramePair:
        """Return frame ``index`` (from 0); the modality that the folder lacks is None."""
        return self._frames.frame(index)


def read_sequences(
    root: str | Path, *, modality: Literal["rgb", "tir"] = "rgb", data_issues: DataIssues | None = None
) -> list[FolderSequence]:
    """Return the sequences of a folder of sequence folders, in natural order, or the one that ``root`` itself is.

    What ``is_stray``, and folders that hold neither frames nor an annotation, are passed over.

    Args:
        root: the folder.
        modality: what the images are where they are of one modality.
        data_issues: where is noted what is passed over.

    Raises:
        DataError: there is none, or a sub-folder with frames has no annotation or the reverse.
    """
    data_issues = DataIssues() if data_issues is None else data_issues
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of sequences, there is none")
    if find_annotation(root) is not None:
        return [FolderSequence(root, modality=modality)]
    folders, others = [], []
    for entry in sorted(root.iterdir()):
        if is_stray(entry):
            data_issues.add(STRAY, entry.name)
        elif entry.is_dir() and is_sequence(entry):
            folders.append(entry)
        elif entry.is_dir():
            others.append(entry)
            data_issues.add(NO_SEQUENCE, entry.name)
    if not folders:
        if others:
            raise DataError(f"{others[0]}: expected a sequence's folder with {' or '.join(ANNOTATIONS)}")
        raise DataError(f"{root}: expected sequence folders, each with {' or '.join(ANNOTATIONS)}, there are none")
    folders = sort_naturally(folders, lambda folder: folder.name, str(root))
    return [FolderSequence(folder, modality=modality) for folder in folders]


def write_sequence(sequence: TrackingSequence, folder: str | Path, *, suffix: str = ".png") -> None:
    """Write a sequence so that ``FolderSequence`` reads it; PNG keeps every pixel, ``.jpg`` is smaller.

    Both modalities go to ``rgb`` and ``tir``, a single one to ``img``. The folder is there when all is written.

    Raises:
        DataError: the folder holds something already.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{folder}: expected a new or empty folder to write the sequence to")
    remove_leftovers(folder)
    temporary = temporary_path(folder)
    try:
        _write_files(sequence, temporary, suffix)
        if folder.exists():
            folder.rmdir()  # empty; not every system replaces it
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_files(sequence: TrackingSequence, folder: Path, suffix: str) -> None:
    for index in range(len(sequence)):
        rgb, tir = sequence.frame(index)
        places = Pair("rgb" if tir is not None else "img", "tir" if rgb is not None else "img")
        for place, image in zip(places, (rgb, tir), strict=True):
            if image is not None:
                write_image(folder / place / f"{index + 1:08d}{suffix}", image)
    if sequence.attributes:
        write_attributes(folder / ATTRIBUTES, sequence.attributes)
    write_boxes(folder / ANNOTATIONS[0], sequence.boxes)


def is_sequence(folder: Path) -> bool:
    """Return whether a folder holds an annotation or frames, so that it is meant as a sequence."""
    if find_annotation(folder) is not None:
        return True
    places = {"img", *NAMES.rgb, *NAMES.tir}
    entries = (path for path in folder.iterdir() if not is_stray(path))
    return any(path.suffix.lower() in SUFFIXES or path.name in places for path in entries)


def find_annotation(folder: str | Path) -> Path | None:
    """Return a sequence folder's annotation file, or None."""
    return next((path for name in ANNOTATIONS if (path := Path(folder) / name).is_file()), None)


def _frames(folder: Path, modality: Literal["rgb", "tir"]) -> Frames:
    sides = modality_folders(folder)
    if sides is not None:
        return open_frames(*sides)
    images = folder / "img" if (folder / "img").is_dir() else folder
    return open_frames(images) if modality == "rgb" else open_frames(tir=images)


def _one_per_frame(boxes: Boxes, length: int, annotation: Path) -> Boxes:
    if len(boxes) > length:
        raise DataError(f"{annotation}: expected at most a box for each of {length} frames, got {len(boxes)}")
    unlabeled = np.full((length - len(boxes), 4), np.nan)
    return np.concatenate([boxes, unlabeled])
