"""Walking a folder of pairs: what makes no pair, and what can't be read."""

from __future__ import annotations

from pathlib import Path

from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.image_pairs.opening import open_pairs
from mmdistill.toolkit.datasets.validation import Checked
from mmdistill.toolkit.progress import progress_bar

UNREADABLE = "pairs that can't be read"
WARNINGS = "how pairs are read"


def check_pairs(
    root: str | Path | None = None,
    *,
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    side_by_side: bool = False,
    decode: bool = False,
) -> Checked:
    """Walk a folder of pairs, as ``open_pairs`` reads it.

    Args:
        root: the folder.
        rgb: as in ``open_pairs``.
        tir: as there.
        side_by_side: as there.
        decode: whether each image is decoded, which takes its time; otherwise no file may be empty.

    Returns:
        How many pairs there are, with what has no partner, and how many of them can be used.

    Raises:
        DataError: the folder is missing or holds no pair.
    """
    data_issues = DataIssues()

    def warn(warning: str) -> None:
        data_issues.add(WARNINGS, warning)

    pairs = open_pairs(root, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip", memory=0, warn=warn)
    pairs.note_left_out(data_issues)
    usable = 0
    with progress_bar(len(pairs), "checking", "pair") as bar:
        for index in range(len(pairs)):
            try:
                if decode:
                    pairs.large_pair(index)
                for path in pairs.files(index):
                    if not path.stat().st_size:
                        raise DataError(f"{path}: expected an image, the file is empty")
                usable += 1
            except DataError as error:
                data_issues.add(UNREADABLE, printable(error))
            bar.update()
    return Checked(len(pairs) + len(pairs.problems), usable, data_issues)
