"""The two folders, one per modality, in which RGB-T data lies."""

from __future__ import annotations

from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.reference.errors import DataError

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
