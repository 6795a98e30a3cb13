"""Reads the attributes of a benchmark's sequences from text files of flags, which are optional."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.coverage import match_names
from mmdistill.toolkit.image_files import is_ignored
from mmdistill.toolkit.io import read_text

MALFORMED = "malformed attributes, the sequences have none"
NO_FILE = "sequences without a file in the folder of attributes"
UNNAMED = "attributes without names, named by their column; --attribute-names gives their names"

OTHER_FILES = frozenset({"attributes_order", "list", "order", "readme", "sequencesname"})
"""Names of text files in a folder of attributes that contain none, without suffix and in lower case."""

T = TypeVar("T")


@dataclass(frozen=True)
class BenchmarkFolder:
    """The folder of a benchmark in which sequences were found.

    Attributes:
        root: the folder that the user gave.
        folder: the folder of the sequences or their annotations, ``root`` or below it.
        sequences: names of the sequences.
        attribute_names: names of the attributes in the order of the flags; empty if the user gave none.
        data_issues: receives data issues.
    """

    root: Path
    folder: Path
    sequences: Sequence[str]
    attribute_names: Sequence[str]
    data_issues: DataIssues

    def find(self, *names: str) -> Path | None:
        """Return the first of several files or folders that exists, or None; see ``find_nearby``."""
        paths = (find_nearby(self.folder, self.root, name) for name in names)
        return next((path for path in paths if path is not None), None)


Flags = dict[str, dict[str, bool]]
"""A flag for each sequence and attribute."""

AttributeReader = Callable[[BenchmarkFolder], Flags]
"""Returns the flags of a benchmark; empty without files. Malformed files become data issues."""


def sequence_file_reader(*folders: str, default_names: Sequence[str] = ()) -> AttributeReader:
    """Return a reader of ``<folder>/<sequence>.txt``, a flag per attribute.

    Args:
        folders: candidates for the folder; see ``find_nearby``.
        default_names: names of the attributes in the order of the flags; without it ``attribute 1`` and so on.
    """

    def read(benchmark: BenchmarkFolder) -> Flags:
        folder = benchmark.find(*folders)
        flags: Flags = {}
        if folder is None:
            return flags
        paths = {path.stem: path for path in folder.glob("*.txt") if not is_ignored(path)}
        files = {name: paths[stem] for stem, name in match_names(benchmark.sequences, paths).items()}
        for sequence in benchmark.sequences:
            if sequence not in files:
                benchmark.data_issues.add(NO_FILE, f"{folder.name}/{sequence}.txt")
                continue
            try:
                path = files[sequence]
                names = benchmark.attribute_names or default_names
                flags[sequence] = _name_flags(_parse_flags(_read_lines(path), path), names, path)
            except DataError as error:
                benchmark.data_issues.add(MALFORMED, str(error))
        return flags

    return read


def attribute_file_reader(folder_name: str, order: str) -> AttributeReader:
    """Return a reader of ``<folder>/<attribute>.txt``, a flag per sequence in the order of a list of names.

    Args:
        folder_name: name of the folder; see ``find_nearby``.
        order: file of the list, in that folder or beside it.
    """

    def read(benchmark: BenchmarkFolder) -> Flags:
        folder = benchmark.find(folder_name)
        if folder is None:
            return {}
        list_file = find_nearby(folder, folder, order)
        if list_file is None:
            benchmark.data_issues.add(MALFORMED, f"{folder}: expected the list of sequences {order}, there is none")
            return {}
        listed = _read_lines(list_file)
        sequence_of = match_names(benchmark.sequences, listed)
        flags: Flags = {sequence: {} for sequence in benchmark.sequences}
        for path in sorted(set(folder.glob("*.txt")) - {list_file}):
            if is_ignored(path) or path.stem.casefold() in OTHER_FILES:
                continue
            try:
                column = _parse_flags(_read_lines(path), path)
                if len(column) != len(listed):
                    raise DataError(f"{path}: expected {len(listed)} flags, one per sequence, got {len(column)}")
                by_name = _unique(zip(listed, column, strict=True), path)
            except DataError as error:
                benchmark.data_issues.add(MALFORMED, str(error))
                continue
            for name, flag in by_name.items():
                if name in sequence_of:
                    flags[sequence_of[name]][path.stem] = flag
        return flags

    return read


def table_reader(file: str, default_names: Sequence[str], order: str) -> AttributeReader:
    """Return a reader of a table with a row per sequence and a column per attribute.

    A first row without flags has the names of the attributes. A first column without flags has the names of the
    sequences. Otherwise the rows are in the order of a list of names, or of the sequences. Columns without names are
    called ``attribute 1`` and so on, unless there are as many as default names.

    Args:
        file: the table; see ``find_nearby``.
        default_names: names of the attributes in the order of the columns, for tables without names.
        order: file of the list; see ``find_nearby``.
    """

    def read(benchmark: BenchmarkFolder) -> Flags:
        path = benchmark.find(file)
        if path is None:
            return {}
        try:
            table = _Table(path)
            list_file = benchmark.find(order)
            rows = table.row_names or (_read_lines(list_file) if list_file else list(benchmark.sequences))
            if len(rows) != len(table.flags):
                raise DataError(f"{path}: expected a row for each of {len(rows)} sequences, got {len(table.flags)}")
            fallback = default_names if table.columns == len(default_names) else ()
            names = benchmark.attribute_names or table.column_names or fallback
            flags = _unique(
                ((row, _name_flags(values, names, path)) for row, values in zip(rows, table.flags, strict=True)), path
            )
        except DataError as error:
            benchmark.data_issues.add(MALFORMED, str(error))
            return {}
        if not names:
            benchmark.data_issues.add(
                UNNAMED, f"{path}: {table.columns} columns, expected {len(default_names)} or a row of names"
            )
        return {name: flags[row] for row, name in match_names(benchmark.sequences, flags).items()}

    return read


class _Table:
    """A table of flags in a text file, columns separated by tabs, commas or spaces.

    Raises:
        DataError: no row of flags, rows of different length, or names in some rows only.

    Attributes:
        column_names: empty without a first row of names.
        row_names: empty without a first column of names.
        flags: the flags of each row.
        columns: number of flags in a row.
    """

    def __init__(self, path: Path) -> None:
        lines = [line.replace(",", " ") for line in _read_lines(path)]
        header = lines.pop(0).split() if lines and not _is_flag(lines[0].split()[-1]) else []
        rows = [line.split() for line in lines]
        if not rows:
            raise DataError(f"{path}: expected a row of flags 0 or 1 for each sequence, got none")
        self.columns = min(_count_last_flags(row) for row in rows)
        if header and len(header) < self.columns:
            raise DataError(f"{path}: expected a name for each of {self.columns} columns of flags, got {len(header)}")
        has_name = [len(row) > self.columns for row in rows]
        if self.columns == 0 or (any(has_name) and not all(has_name)):
            number = 1 + (has_name.index(False) if self.columns else 0)
            raise DataError(f"{path}: expected a name and flags 0 or 1 in each row, got {lines[number - 1][:60]!r}")
        self.column_names = header[len(header) - self.columns :]
        self.row_names = [" ".join(row[: -self.columns]) for row in rows] if all(has_name) else []
        self.flags = [_parse_flags(row[-self.columns :], path) for row in rows]


def _count_last_flags(row: Sequence[str]) -> int:
    """Return the number of flags at the end of a row."""
    return next((count for count, field in enumerate(reversed(row)) if not _is_flag(field)), len(row))


def _unique(pairs: Iterable[tuple[str, T]], path: Path) -> dict[str, T]:
    """Return values by name.

    Raises:
        DataError: a name has different values.
    """
    values: dict[str, T] = {}
    for name, value in pairs:
        if values.setdefault(name, value) != value:
            raise DataError(f"{path}: sequence {name} is listed twice with different flags")
    return values


def find_nearby(folder: Path, root: Path, name: str) -> Path | None:
    """Return the file or folder of this name in the first of these folders that has it, or None.

    The folders are ``folder``, those above it up to the parent of ``root``, and the sub-folders of ``root``.
    """
    folder, root = folder.absolute(), root.absolute()  # "." has no parents
    above = [folder, *folder.parents]
    above = above[: above.index(root) + 2]
    below = sorted(each for each in root.iterdir() if not is_ignored(each) and each.is_dir())
    return next((path for each in (*above, *below) if (path := each / name).exists()), None)


def _parse_flags(lines: Sequence[str], path: Path) -> list[bool]:
    """Return flags 0 or 1, separated by commas, spaces or line ends."""
    fields = " ".join(lines).replace(",", " ").split()
    malformed = next((field for field in fields if not _is_flag(field)), None)
    if malformed is not None:
        raise DataError(f"{path}: expected flags 0 or 1, got {malformed[:60]!r}")
    return [float(field) == 1 for field in fields]


def _name_flags(flags: list[bool], names: Sequence[str], path: Path) -> dict[str, bool]:
    names = names or [f"attribute {number}" for number in range(1, len(flags) + 1)]
    if len(flags) != len(names):
        raise DataError(f"{path}: expected {len(names)} flags, one for each attribute, got {len(flags)}")
    return dict(zip(names, flags, strict=True))


def _is_flag(field: str) -> bool:
    return field in ("0", "1", "0.0", "1.0")


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]
