"""Which attributes a benchmark's sequences have: flags in text files, which are optional."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.folder_sequence import is_stray
from mmdistill.toolkit.datasets.splits import match_names
from mmdistill.toolkit.io import read_text

MALFORMED = "attributes that can't be read, the sequences go without"
NO_FILE = "sequences that the folder of attributes has no file for"
UNNAMED = "attributes without names, which are called by their column; --attribute-names gives them"

NOTES = frozenset({"attributes_order", "list", "order", "readme", "sequencesname"})
"""Names of text files beside those of attributes that hold none, in small letters."""

T = TypeVar("T")


@dataclass(frozen=True)
class Copy:
    """A copy of a benchmark whose sequences were found.

    Attributes:
        root: the folder that was named.
        place: the folder below it in which the sequences, or their annotations, lie.
        sequences: their names.
        attributes: the attributes' names, where someone said them.
        data_issues: where is noted what is odd.
    """

    root: Path
    place: Path
    sequences: Sequence[str]
    attributes: Sequence[str]
    data_issues: DataIssues

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
        if folder is None:
            return flags
        there = {path.stem: path for path in folder.glob("*.txt") if not is_stray(path)}
        files = {name: there[file] for file, name in match_names(copy.sequences, there).items()}
        for sequence in copy.sequences:
            if sequence not in files:
                copy.data_issues.add(NO_FILE, f"{folder.name}/{sequence}.txt")
                continue
            try:
                path = files[sequence]
                flags[sequence] = _named(_flags(_lines(path), path), copy.attributes or usual, path)
            except DataError as error:
                copy.data_issues.add(MALFORMED, str(error))
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
            copy.data_issues.add(MALFORMED, f"{where}: expected the sequences' names in {order} there, there is none")
            return {}
        sequences = _lines(listed)
        meant = match_names(copy.sequences, sequences)
        flags: Flags = {sequence: {} for sequence in copy.sequences}
        for path in sorted(set(where.glob("*.txt")) - {listed}):
            if is_stray(path) or path.stem.casefold() in NOTES:
                continue
            try:
                column = _flags(_lines(path), path)
                if len(column) != len(sequences):
                    raise DataError(f"{path}: expected {len(sequences)} flags, one a sequence, got {len(column)}")
                by_name = _unique(zip(sequences, column, strict=True), path)
            except DataError as error:
                copy.data_issues.add(MALFORMED, str(error))
                continue
            for sequence, flag in by_name.items():
                if sequence in meant:
                    flags[meant[sequence]][path.stem] = flag
        return flags

    return read


def one_table(file: str, usual: Sequence[str], order: str) -> Attributes:
    """Return what reads a table with a row per sequence and a column per attribute.

    A first row that holds no flags names the attributes. A first column that holds no flags names the sequences;
    without it the rows are in the order of a list of names, or of the names themselves. Columns that nothing names are
    called ``attribute 1`` ... unless they are as many as usual.

    Args:
        file: relative to the sequences' folder, or to one above.
        usual: the attributes in the order of the columns, where the table does not say them.
        order: the list's file.
    """

    def read(copy: Copy) -> Flags:
        path = copy.find(file)
        if path is None:
            return {}
        try:
            table = _Table(path)
            listed = copy.find(order)
            names = table.names or (_lines(listed) if listed else list(copy.sequences))
            if len(names) != len(table.flags):
                raise DataError(f"{path}: expected a row for each of {len(names)} sequences, got {len(table.flags)}")
            titles = copy.attributes or table.titles or (usual if table.columns == len(usual) else ())
            flags = _unique(
                ((name, _named(row, titles, path)) for name, row in zip(names, table.flags, strict=True)), path
            )
        except DataError as error:
            copy.data_issues.add(MALFORMED, str(error))
            return {}
        if not titles:
            copy.data_issues.add(UNNAMED, f"{path}: {table.columns} columns, expected {len(usual)} or a row of names")
        return {name: flags[row] for row, name in match_names(copy.sequences, flags).items()}

    return read


class _Table:
    """A table of flags in a text file, columns separated by tabs, commas or blanks.

    Raises:
        DataError: no row of flags, rows of different length, or some rows with a name and others without.

    Attributes:
        titles: the columns' names; empty without a first row of names.
        names: the rows' names; empty without a first column of names.
        flags: of each row.
        columns: how many flags a row has.
    """

    def __init__(self, path: Path) -> None:
        lines = [line.replace(",", " ") for line in _lines(path)]
        header = lines.pop(0).split() if lines and not _is_flag(lines[0].split()[-1]) else []
        rows = [line.split() for line in lines]
        if not rows:
            raise DataError(f"{path}: expected a row of flags 0 or 1 for each sequence, got none")
        self.columns = min(_flags_at_end(row) for row in rows)
        if header and len(header) < self.columns:
            raise DataError(f"{path}: expected a name for each of {self.columns} columns of flags, got {len(header)}")
        header = header[len(header) - self.columns :]
        named = [len(row) > self.columns for row in rows]
        if self.columns == 0 or (any(named) and not all(named)):
            number = 1 + (named.index(False) if self.columns else 0)
            raise DataError(f"{path}: expected a name and flags 0 or 1 in each row, got {lines[number - 1][:60]!r}")
        self.titles = header
        cut = -self.columns
        self.names = [" ".join(row[:cut]) for row in rows] if all(named) else []
        self.flags = [_flags(row[cut:], path) for row in rows]


def _flags_at_end(row: Sequence[str]) -> int:
    return next((count for count, word in enumerate(reversed(row)) if not _is_flag(word)), len(row))


def _unique(pairs: Iterable[tuple[str, T]], path: Path) -> dict[str, T]:
    """Return values by name.

    Raises:
        DataError: a name comes twice with different values.
    """
    found: dict[str, T] = {}
    for name, value in pairs:
        if found.setdefault(name, value) != value:
            raise DataError(f"{path}: sequence {name} comes twice with different flags")
    return found


def nearby(place: Path, root: Path, name: str) -> Path | None:
    """Return an entry of a folder, of one above it up to the one that holds ``root``, or of one beside it there."""
    place, root = place.absolute(), root.absolute()  # "." has no folder above it
    above = [place, *place.parents]
    above = above[: above.index(root) + 2]
    beside = sorted(folder for folder in root.iterdir() if not is_stray(folder) and folder.is_dir())
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
