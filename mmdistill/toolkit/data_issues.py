"""Errors and issues of data: the error for unusable data, a list of handled issues, and printable messages."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_MESSAGE = 300
"""Longest error or warning on the command line, characters."""

MAX_NAME = 120
"""Longest name from a file in an error, characters."""

_GAP = " ... "


class DataError(ValueError):
    """A file or an argument is missing, malformed or out of range.

    The message is one line: the file or argument, what was expected, and what came. The command line prints it and
    exits with status 1.
    """


def printable(text: object, limit: int | None = None) -> str:
    r"""Return a text that is safe to print, such as a file name; unprintable characters become backslash escapes.

    These are control characters, terminal escapes, direction marks, line ends, and bytes that are not UTF-8. Spaces
    stay.

    >>> print(printable("car\x1b[31m\udcff.txt"))
    car\x1b[31m\xff.txt

    Args:
        text: any object.
        limit: maximum length, at least 20 characters; a third of it is taken from the end. No limit by default.
    """
    text = str(text)
    if limit is not None and len(text) > 20 * limit:  # avoids escaping megabytes
        text = text[: 10 * limit] + _GAP + text[-10 * limit :]
    text = text if text.isprintable() else "".join(map(_visible, text))
    if limit is None or len(text) <= limit:
        return text
    at_end = limit // 3
    return text[: limit - at_end - len(_GAP)] + _GAP + text[-at_end:]


def one_line(text: object, limit: int = MAX_MESSAGE) -> str:
    """Return a message as one printable line; a long one is shortened in the middle.

    Args:
        text: the message; a run of spaces and line ends becomes one space.
        limit: maximum length, characters.
    """
    return printable(" ".join(str(text).split()), limit)


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # Python's code for a byte of a file name that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def join_names(names: Iterable[str], limit: int = 3) -> str:
    """Return the first ``limit`` names in alphabetical order, printable, and the number of the others."""
    ordered = sorted(names)
    more = f" and {len(ordered) - limit} more" if len(ordered) > limit else ""
    return ", ".join(one_line(name, MAX_NAME) for name in ordered[:limit]) + more


class DataIssues:
    """Issues of data that do not stop the work, grouped by kind."""

    def __init__(self) -> None:
        self._details: dict[str, list[str]] = {}

    def add(self, kind: str, detail: str = "") -> None:
        """Add an issue.

        Args:
            kind: the issue and how it is handled, such as ``results a frame short, the last box is repeated``.
            detail: the sequence or file; empty if the number of issues is enough.
        """
        self._details.setdefault(kind, []).append(detail)

    def extend(self, other: DataIssues) -> None:
        """Add all issues of another list."""
        for kind, details in other._details.items():
            self._details.setdefault(kind, []).extend(details)

    def __len__(self) -> int:
        return sum(map(len, self._details.values()))

    def lines(self, max_details: int | None = None) -> list[str]:
        """Return a line for each kind, followed by a printable line for each detail.

        >>> data_issues = DataIssues()
        >>> for name in ("car", "man", "dog"):
        ...     data_issues.add("a frame short, the last box is repeated", name)
        >>> data_issues.lines(max_details=2)
        ['a frame short, the last box is repeated: 3', '  car', '  man', '  and 1 more']

        Args:
            max_details: maximum number of details of a kind; all by default.
        """
        lines = []
        for kind, issues in self._details.items():
            lines.append(kind if issues == [""] else f"{kind}: {len(issues):,}")
            details = [detail for detail in issues if detail]
            lines += [f"  {printable(detail, MAX_MESSAGE)}" for detail in details[:max_details]]
            if max_details is not None and len(details) > max_details:
                lines.append(f"  and {len(details) - max_details:,} more")
        return lines
