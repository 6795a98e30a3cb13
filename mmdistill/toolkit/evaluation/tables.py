"""Plain-text tables for terminals."""

from __future__ import annotations

from collections.abc import Sequence

from mmdistill.toolkit.data_issues import printable


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str | float]], *, decimals: int = 1) -> str:
    """Return an aligned table: text to the left, numbers to the right.

    >>> print(format_table(["tracker", "PR", "SR"], [["student", 46.44, 35.0], ["teacher", 100.0, 9.5]]))
    tracker     PR    SR
    -------  -----  ----
    student   46.4  35.0
    teacher  100.0   9.5

    Args:
        headers: the columns' names.
        rows: a value per column; floats get ``decimals`` decimals, integers none, text is made printable.
        decimals: how many.

    Raises:
        ValueError: a row with another number of values than there are headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"a table of {len(headers)} columns got a row of {len(row)}: {list(row)}")
    cells = [
        [f"{value:.{decimals}f}" if isinstance(value, float) else printable(value) for value in row] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    numeric = [bool(rows) and all(not isinstance(row[index], str) for row in rows) for index in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        aligned = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])
