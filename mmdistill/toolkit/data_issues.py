"""The error that bad data raises, and how its message is made safe to print.

What is odd about files but does not stop the work: collected, and said together, kind by kind.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

MAX_MESSAGE = 300
"""Characters of an error or warning on the command line."""

MAX_NAME = 120
"""Characters of a name from a file in an error."""

_GAP = " ... "


class DataError(ValueError):
    """Something on disk, or given by the user, is not what it must be.

    The message is one line that names the file (or the argument), says what is wrong and what was
    expected. The command line prints it and exits with status 1.
    """


def printable(text: object, limit: int | None = None) -> str:
    r"""Return a text in which characters that a terminal acts on are visible; for names of files and of what they hold.

    Control characters, terminal escapes, characters that change the direction of text, line ends, and bytes of a name
    that are no UTF-8 become backslash escapes. All other characters stay, and so do spaces.

    >>> print(printable("car\x1b[31m\udcff.txt"))
    car\x1b[31m\xff.txt

    Args:
        text: any.
        limit: how many characters are kept, a third of them from the end; at least 20. All if not given.
    """
    text = str(text)
    if limit is not None and len(text) > 20 * limit:  # megabytes are not walked character by character
        text = text[: 10 * limit] + _GAP + text[-10 * limit :]
    text = text if text.isprintable() else "".join(map(_visible, text))
    if limit is None or len(text) <= limit:
        return text
    at_end = limit // 3
    return text[: limit - at_end - len(_GAP)] + _GAP + text[-at_end:]


def one_line(text: object, limit: int = MAX_MESSAGE) -> str:
    """Return a message on one line, printable, of at most ``limit`` characters; a long one keeps both its ends.

    Args:
        text: the message; runs of spaces and line ends become a space.
        limit: as ``printable`` takes it.
    """
    return printable(" ".join(str(text).split()), limit)


def _visible(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python keeps a byte of a file name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def some(names: Iterable[str], limit: int = 3) -> str:
    """Return the first few names and how many more there are; long ones are cut, unprintable ones escaped."""
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(one_line(name, MAX_NAME) for name in listed[:limit]) + more


class DataIssues:
    """What was found odd, grouped by what it is; each kind says what was made of it."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, kind: str, detail: str = "") -> None:
        """Note something.

        Args:
            kind: what is odd and what is made of it, such as ``results a frame short, the last box is repeated``.
            detail: where; empty if a count will do.
        """
        self._found.setdefault(kind, []).append(detail)

    def extend(self, other: DataIssues) -> None:
        """Note all that another one holds."""
        for kind, details in other._found.items():
            self._found.setdefault(kind, []).extend(details)

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def lines(self, most: int | None = None) -> list[str]:
        """Return a line per kind, and below it a line per detail, printable and cut as errors are.

        >>> oddities = DataIssues()
        >>> for name in ("car", "man", "dog"):
        ...     oddities.add("a frame short, the last box is repeated", name)
        >>> oddities.lines(most=2)
        ['a frame short, the last box is repeated: 3', '  car', '  man', '  and 1 more']

        Args:
            most: how many details of a kind are shown; all if not given.
        """
        lines = []
        for kind, found in self._found.items():
            lines.append(kind if found == [""] else f"{kind}: {len(found):,}")
            details = [detail for detail in found if detail]
            lines += [f"  {printable(detail, MAX_MESSAGE)}" for detail in details[:most]]
            if most is not None and len(details) > most:
                lines.append(f"  and {len(details) - most:,} more")
        return lines
