"""LasHeR: 979 sequences for training and 245 for testing, one ground truth for both modalities.

Li et al., LasHeR: A Large-scale High-diversity Benchmark for RGBT Tracking, TIP 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import file_per_sequence, nearby
from mmdistill.reference.data.benchmarks.layout import Layout, SequenceFiles, annotations_only, paired_folders
from mmdistill.reference.data.box_files import read_text

Split = Literal["test", "train", "all"]

COUNTS = {"test": 245, "train": 979, "all": 1224}

ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)


def lasher(split: Split = "test") -> Layout:
    """Return the layout of one part: ``<name>/{visible,infrared}/``, ``visible.txt``, ``init.txt``; ``AttriSeqsTxt/``.

    A folder of both parts is told apart by the lists ``testingsetList.txt`` and ``trainingsetList.txt`` in it or above
    it, or by the names of its sub-folders (``testingset``, ``trainingset``). A copy without either is taken as it is.
    Annotations alone may be ``<name>.txt``.
    """
    folders = paired_folders(truths=("visible.txt",), images=Pair(("visible",), ("infrared",)), init="init.txt")
    return Layout(
        "lasher",
        COUNTS[split],
        find=(_part(folders, split), _part(annotations_only, split)),
        attributes=file_per_sequence("AttriSeqsTxt", usual=ATTRIBUTES),
        part="" if split == "all" else f"({split})",
        listed=f"{split}ingsetList.txt",
    )


def _part(find: Callable[[Path], list[SequenceFiles]], split: Split) -> Callable[[Path], list[SequenceFiles]]:
    """Return what finds one part's sequences alone."""

    def find_part(folder: Path) -> list[SequenceFiles]:
        here = folder.absolute()
        said = next((part for each in (here, here.parent) if (part := _said(each.name)) is not None), split)
        if folder.name == "AttriSeqsTxt" or split not in ("all", said):
            return []
        files = find(folder)
        listed = nearby(here, here.parent, f"{split}ingsetList.txt") if files else None
        if listed is None:
            return files
        names = set(read_text(listed).split())
        return [each for each in files if each.name in names]

    return find_part


def _said(folder: str) -> str | None:
    """Return which part a folder's name says that it holds."""
    return next((part for part in ("test", "train") if folder.casefold().startswith(f"{part}ing")), None)
