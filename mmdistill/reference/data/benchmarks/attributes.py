"""Which attributes a benchmark's sequences have: flags in text files, which are optional."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdistill.reference.data.box_files import read_text
from mmdistill.reference.errors import DataError
from mmdistill.reference.oddities import Oddities

MALFORMED = "attributes that can't be read, the sequences go without"


@dataclass(frozen=True)
class Copy:
    """A copy of a benchmark whose sequences were found.

    Attributes:
        root: the folder that was named.
        place: the folder below it in which the sequences, or their annotations, lie.
        sequences: their names.
        attributes: the attributes' names, where someone said them.
        oddities: where is noted what is odd.
    """

    root: Path
    place: Path
    sequences: Sequence[str]
    attributes: Sequence[str]
    oddities: Oddities

    def find(self, *names: str) -> Path | None:
        """Return the first of several entries that is there: see ``nearby``."""
        found = (nearby(self.place, self.root, name) for name in names)
        return next((path for path in found if path is not None), None)


Flags = dict[str, dict[str, bool]]
"""For each sequence's name and attribute whether the sequence has it."""

Attributes = Callable[[Copy], Flags]
"""Returns what the files of a copy say; nothing if there are none. What is malformed is noted as odd and left out."""


def file_per_sequence(*folders: str, usual: Sequence[str] = ()) -> Attributes:
    """Return what reads ``<folder>/<sequence>.txt``, a flag per attribute.

    Args:
        folders: where to look, relative to the sequences' folder, or to one above.
        usual: the attributes in the order of the flags; without it they are called ``attribute 1`` ...
    """

    def read(copy: Copy) -> Flags:
        folder = copy.find(*folders)
        flags: Flags = {}
        for sequence in copy.sequences if folder else ():
            assert folder is not None
            path = folder / f"{sequence}.txt"
            try:
                flags[sequence] = _named(_flags(_lines(path), path), copy.attributes or usual, path)
            except DataError as error:
                copy.oddities.add(MALFORMED, str(error))
        return flags

    return read


def file_per_attribute(folder: str, order: str) -> Attributes:
    """Return what reads ``<folder>/<attribute>.txt``, a flag per sequence in the order of a list of names.

    Args:
        folder: relative to the sequences' folder, or to one above.
        order: the list's file, in that folder or beside it.
    """

    def read(copy: Copy) -> Flags:
        where = copy.find(folder)
        if where is None:
            return {}
        listed = nearby(where, where, order)
        if listed is None:
            copy.oddities.add(MALFORMED, f"{where}: expected the sequences' names in {order} there, there is none")
            return {}
        sequences = _lines(listed)
        flags: Flags = {sequence: {} for sequence in copy.sequences}
        for path in sorted(set(where.glob("*.txt")) - {listed}):
            try:
                column = _flags(_lines(path), path)
                if len(column) != len(sequences):
                    raise DataError(f"{path}: expected {len(sequences)} flags, one a sequence, got {len(column)}")
            except DataError as error:
                copy.oddities.add(MALFORMED, str(error))
                continue
            for sequence, flag in zip(sequences, column, strict=True):
                if sequence in flags:
                    flags[sequence][path.stem] = flag
        return flags

    return read


def one_table(file: str, usual: Sequence[str], order: str) -> Attributes:
    """Return what reads a table with a row per sequence and a column per attribute.

    A first row that holds no flags names the attributes. A first column that holds no flags names the sequences;
    without it the rows are in the order of a list of names, or of the names themselves.

    Args:
        file: relative to the sequences' folder, or to one above.
        usual: the attributes in the order of the columns, where the table does not say them.
        order: the list's file.
    """

    def read(copy: Copy) -> Flags:
        path = copy.find(file)
        if path is None:
            return {}
        rows = [line.replace(",", " ").split() for line in _lines(path)]
        header = [] if not rows or _is_flag(rows[0][-1]) else rows.pop(0)
        titles = copy.attributes or header[-len(usual) :] or usual
        named = bool(rows) and not _is_flag(rows[0][0])
        listed = copy.find(order)
        names = [row[0] for row in rows] if named else (_lines(listed) if listed else list(copy.sequences))
        try:
            if len(names) != len(rows):
                raise DataError(f"{path}: expected a row for each of {len(names)} sequences, got {len(rows)}")
            flags = {
                name: _named(_flags(row[named:], path), titles, path) for name, row in zip(names, rows, strict=True)
            }
        except DataError as error:
            copy.oddities.add(MALFORMED, str(error))
            return {}
        return {sequence: flags[sequence] for sequence in copy.sequences if sequence in flags}

    return read


def nearby(place: Path, root: Path, name: str) -> Path | None:
    """Return an entry of a folder, of one above it up to the one that holds ``root``, or of one beside it there."""
    place, root = place.absolute(), root.absolute()  # "." has no folder above it
    above = [place, *place.parents]
    above = above[: above.index(root) + 2]
    beside = sorted(folder for folder in root.iterdir() if folder.is_dir())
    return next((path for folder in (*above, *beside) if (path := folder / name).exists()), None)


def _flags(lines: Sequence[str], path: Path) -> list[bool]:
    """Return flags 0 or 1, separated by commas, blanks or line ends."""
    words = " ".join(lines).replace(",", " ").split()
    strange = next((word for word in words if not _is_flag(word)), None)
    if strange is not None:
        raise DataError(f"{path}: expected flags 0 or 1, got {strange[:60]!r}")
    return [float(word) == 1 for word in words]


def _named(flags: list[bool], names: Sequence[str], path: Path) -> dict[str, bool]:
    names = names or [f"attribute {number}" for number in range(1, len(flags) + 1)]
    if len(flags) != len(names):
        raise DataError(f"{path}: expected {len(names)} flags, one for each attribute, got {len(flags)}")
    return dict(zip(names, flags, strict=True))


def _is_flag(word: str) -> bool:
    return word in ("0", "1", "0.0", "1.0")


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
