"""What is said where a folder holds no pair: what was looked for, what was found, and what to do."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.image_pairs.matching import Layout
from mmdistill.toolkit.datasets.image_pairs.scanning import Folder, Side, may_be_partners, side_of
from mmdistill.toolkit.image_files import SUFFIXES, natural_order

LOOKED_FOR = (
    "Looked for folder or file names with rgb, visible, vis, vi, color ... and tir, infrared, ir, thermal, lwir ..."
)
CHOOSE = "--rgb DIR --tir DIR reads any two folders"

MAX_EXAMPLES = 3
MAX_LEVELS = 3
"""How many folders above a given one may name its modality: ``visible/train``."""


class NoPairsError(DataError):
    """A folder holds nothing that could be pairs."""


def partner_missing(folder: Folder) -> str:
    """Return the problem of a folder of one modality."""
    missing = "RGB" if side_of(folder.name) == "tir" else "TIR"
    return f"{printable(folder.path)}: its {missing} partner is missing, a folder beside it ({folder.count:,} images)"


def one_modality(root: Path) -> str | None:
    """Return why a folder holds the images of one modality alone, by its own name or one above it, or None."""
    path = Path(os.path.abspath(root))  # noqa: PTH100 - links keep their names
    for number, folder in enumerate([path, *path.parents][:MAX_LEVELS]):
        side = side_of(folder.name)
        if side is None:
            continue
        partners = [
            name
            for name in _folders_of("tir" if side == "rgb" else "rgb", folder.parent)
            if may_be_partners(folder.name, name)
        ]
        if partners:
            name, partner = printable(folder.name), printable(partners[0])
            return f"is {side.upper()} alone, as {name!r} says, beside {partner!r}; give {printable(folder.parent)}"
        if number == 0:
            return f"is {side.upper()} alone by its name; give the folder that holds both modalities"
    return None


def no_partners(rgb: Sequence[str], tir: Sequence[str], where: str) -> DataError:
    """Return the error of two folders in which no name is a pair."""
    sides = (
        f"{len(names):,} {side} images ({_examples(names)})"
        for side, names in zip(("RGB", "TIR"), (rgb, tir), strict=True)
    )
    return DataError(f"{where}: none of {' has a partner of the same name among '.join(sides)}")


def not_found(root: Path, scanned: Folder, layout: Layout, not_side_by_side: str | None) -> NoPairsError:
    """Return the error of a folder without a pair."""
    where = printable(root)
    if not scanned.count:
        unreadable = [line for folder in scanned.walk() for line in folder.unreadable]
        return NoPairsError(
            unreadable[0] if unreadable else f"{where}: expected images ({' '.join(sorted(SUFFIXES))}), none"
        )
    if reason := one_modality(root):
        return NoPairsError(f"{where}: {reason}")
    if layout.alone:
        return NoPairsError(f"{partner_missing(layout.alone[0])}; {CHOOSE}. {LOOKED_FOR}")
    halves = f" Not side by side: {not_side_by_side}." if not_side_by_side else ""
    return NoPairsError(f"{where}: no RGB-TIR pairs in {_inventory(scanned)}.{halves} {LOOKED_FOR}; {CHOOSE}")


def _inventory(scanned: Folder) -> str:
    holding = [folder for folder in scanned.walk() if folder.images]
    if len(holding) == 1 and holding[0] is scanned:
        return f"{len(scanned.images):,} images ({_examples(scanned.images)})"
    shown = ", ".join(f"{folder} ({len(folder.images):,})" for folder in holding[:MAX_EXAMPLES])
    more = f" and {len(holding) - MAX_EXAMPLES:,} more" if len(holding) > MAX_EXAMPLES else ""
    return f"the folders {shown}{more}" if len(holding) > 1 else f"the folder {shown}"


def _examples(names: Sequence[str]) -> str:
    shown = sorted(names, key=natural_order)[:2]
    return ", ".join(printable(name) for name in shown) + (" ..." if len(names) > len(shown) else "")


def _folders_of(side: Side, parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if side_of(entry.name) == side and entry.is_dir())
    except OSError:
        return []
