"""LasHeR: 979 sequences for training and 245 for testing, one ground truth for both modalities.

Li et al., LasHeR: A Large-scale High-diversity Benchmark for RGBT Tracking, TIP 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import file_per_sequence, nearby
from mmdistill.reference.data.benchmarks.layout import (
    Layout,
    SequenceFiles,
    annotations_only,
    paired_folders,
    sub_folders,
)
from mmdistill.reference.data.box_files import read_text

Split = Literal["test", "train", "all"]

COUNTS = {"test": 245, "train": 979, "all": 1224}

ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)


ATTRIBUTES_FOLDER = "AttriSeqsTxt"


def lasher(split: Split = "test") -> Layout:
    """Return the layout of one part: ``<name>/{visible,infrared}/``, ``visible.txt``, ``init.txt``; ``AttriSeqsTxt/``.

    A folder of both parts is told apart by the lists ``testingsetList.txt`` and ``trainingsetList.txt`` in it or above
    it, or by the names of its sub-folders (``testingset``, ``trainingset``), which together are all. A copy without
    either is taken as it is. Annotations alone may be ``<name>.txt``.
    """
    folders = paired_folders(truths=("visible.txt",), images=Pair(("visible",), ("infrared",)), init="init.txt")
    return Layout(
        "lasher",
        COUNTS[split],
        find=tuple(_whole(each) if split == "all" else _part(each, split) for each in (folders, annotations_only)),
        attributes=file_per_sequence(ATTRIBUTES_FOLDER, usual=ATTRIBUTES),
        part="" if split == "all" else f"({split})",
        listed=f"{split}ingsetList.txt",
    )


def _whole(find: Callable[[Path], list[SequenceFiles]]) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds the sequences of a folder, or of the parts' folders in it."""

    def find_whole(folder: Path) -> list[SequenceFiles]:
        if folder.name == ATTRIBUTES_FOLDER:
            return []
        parts = [each for each in sub_folders(folder) if _said(each.name) is not None]
        return find(folder) or [files for part in parts for files in find_whole(part)]

    return find_whole


def _part(find: Callable[[Path], list[SequenceFiles]], split: Split) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds one part's sequences alone."""

    def find_part(folder: Path) -> list[SequenceFiles]:
        here = folder.absolute()
        said = next((part for each in (here, here.parent) if (part := _said(each.name)) is not None), split)
        if folder.name == ATTRIBUTES_FOLDER or split != said:
            return []
        files = find(folder)
        listed = nearby(here, here.parent, f"{split}ingsetList.txt") if files else None
        if listed is None:
            return files
        names = {line.strip() for line in read_text(listed).splitlines()}
        return [each for each in files if each.name in names]

    return find_part


def _said(folder: str) -> str | None:
    """Return which part a folder's name says that it holds."""
    return next((part for part in ("test", "train") if folder.casefold().startswith(f"{part}ing")), None)
