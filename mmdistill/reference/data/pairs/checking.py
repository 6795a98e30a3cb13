"""Walking a folder of pairs: what makes no pair, and what can't be read."""

from __future__ import annotations

from pathlib import Path

from mmdistill.reference.data.benchmarks.checking import Checked
from mmdistill.reference.data.pairs.opening import open_pairs
from mmdistill.reference.errors import DataError
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.progress import progress_bar

ALONE = "files and folders that make no pair"
UNREADABLE = "pairs that can't be read"


def check_pairs(root: str | Path, *, decode: bool = False) -> Checked:
    """Walk a folder of pairs, as ``open_pairs`` reads it.

    Args:
        root: the folder.
        decode: whether each image is decoded, which takes its time; otherwise no file may be empty.

    Returns:
        How many pairs there are, with what has no partner, and how many of them can be used.

    Raises:
        DataError: the folder is missing or holds no pair.
    """
    pairs, oddities = open_pairs(root, on_broken="skip", memory=0), Oddities()
    for problem in pairs.problems:
        oddities.add(ALONE, problem)
    usable = 0
    with progress_bar(len(pairs), "checking", "pair") as bar:
        for index in range(len(pairs)):
            try:
                if decode:
                    pairs.pair(index)
                for path in pairs.files(index):
                    if not path.stat().st_size:
                        raise DataError(f"{path}: expected an image, the file is empty")
                usable += 1
            except DataError as error:
                oddities.add(UNREADABLE, str(error))
            bar.update()
    return Checked(len(pairs) + len(pairs.problems), usable, oddities)
