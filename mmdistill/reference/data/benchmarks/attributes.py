"""Which attributes a benchmark's sequences have: flags in text files, which are optional."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mmdistill.reference.data.box_files import read_text
from mmdistill.reference.errors import DataError
from mmdistill.reference.oddities import Oddities

Flags = dict[str, dict[str, bool]]
"""For each sequence's name and attribute whether the sequence has it."""

Attributes = Callable[[Path, Path, Sequence[str], Sequence[str], Oddities], Flags]
"""Given the folder of the sequences, the folder that was named, the sequences' names, the attributes' names (if someone
said them) and where oddities are noted, returns what is known."""

MALFORMED = "attributes that can't be read, the sequences go without"


def no_attributes(place: Path, root: Path, sequences: Sequence[str], names: Sequence[str], oddities: Oddities) -> Flags:
    """Return nothing: the benchmark has no attributes, or nobody knows how they lie."""
    return {}


def file_per_sequence(*folders: str, usual: Sequence[str] = ()) -> Attributes:
    """Return what reads ``<folder>/<sequence>.txt``, a flag per attribute.

    Args:
        folders: where to look, relative to the sequences' folder, or to one above.
        usual: the attributes in the order of the flags; without it they are called ``attribute 1`` ...
    """

    def read(place: Path, root: Path, sequences: Sequence[str], names: Sequence[str], oddities: Oddities) -> Flags:
        where = next((found for folder in folders if (found := nearby(place, root, folder)) is not None), None)
        if where is None:
            return {}
        flags: Flags = {}
        for sequence in sequences:
            path = where / f"{sequence}.txt"
            try:
                flags[sequence] = _named(read_flags(read_text(path), path), names or usual, path)
            except DataError as error:
                oddities.add(MALFORMED, str(error))
        return flags

    return read


def file_per_attribute(folder: str, order: str) -> Attributes:
    """Return what reads ``<folder>/<attribute>.txt``, a flag per sequence in the order of a list of names.

    Args:
        folder: relative to the sequences' folder, or to one above.
        order: the list's file, in that folder or beside it.
    """

    def read(place: Path, root: Path, sequences: Sequence[str], names: Sequence[str], oddities: Oddities) -> Flags:
        where = nearby(place, root, folder)
        if where is None:
            return {}
        listed = nearby(where, root, order)
        if listed is None:
            oddities.add(MALFORMED, f"{where / order}: expected the names of the sequences, there is no such file")
            return {}
        rows = _lines(listed)
        flags: Flags = {sequence: {} for sequence in sequences}
        for path in sorted(where.glob("*.txt")):
            if path.name == order or (names and path.stem not in names):
                continue
            try:
                column = read_flags(read_text(path), path)
                if len(column) != len(rows):
                    raise DataError(f"{path}: expected {len(rows)} flags, one for each sequence, got {len(column)}")
            except DataError as error:
                oddities.add(MALFORMED, str(error))
                continue
            for sequence, flag in zip(rows, column, strict=True):
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

    def read(place: Path, root: Path, sequences: Sequence[str], names: Sequence[str], oddities: Oddities) -> Flags:
        path = nearby(place, root, file)
        if path is None:
            return {}
        listed = nearby(place, root, order)
        rows = [line.replace(",", " ").split() for line in _lines(path)]
        header = [] if not rows or _is_flag(rows[0][-1]) else rows.pop(0)
        titles = names or header[-len(usual) :] or usual
        named = bool(rows) and not _is_flag(rows[0][0])
        keys = [row[0] for row in rows] if named else (_lines(listed) if listed else list(sequences))
        try:
            if len(keys) != len(rows):
                raise DataError(f"{path}: expected a row for each of {len(keys)} sequences, got {len(rows)}")
            flags = {
                key: _named(read_flags(" ".join(row[named:]), path), titles, path)
                for key, row in zip(keys, rows, strict=True)
            }
        except DataError as error:
            oddities.add(MALFORMED, str(error))
            return {}
        return {sequence: flags[sequence] for sequence in sequences if sequence in flags}

    return read


def nearby(place: Path, root: Path, name: str) -> Path | None:
    """Return an entry of a folder, of one above it up to the one that holds ``root``, or of one beside it in ``root``."""
    above = [place, *place.parents]
    above = above[: above.index(root) + 2]
    beside = sorted(folder for folder in root.iterdir() if folder.is_dir())
    return next((path for folder in (*above, *beside) if (path := folder / name).exists()), None)


def read_flags(text: str, path: Path) -> list[bool]:
    """Return flags 0 or 1, separated by commas, blanks or line ends.

    Raises:
        DataError: there is something else.
    """
    words = text.replace(",", " ").split()
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
