"""What is odd about files but does not stop the work: collected, and said together, kind by kind."""

from __future__ import annotations

from mmdistill.reference.errors import MAX_MESSAGE, printable


class Oddities:
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

    def extend(self, other: Oddities) -> None:
        """Note all that another one holds."""
        for kind, details in other._found.items():
            self._found.setdefault(kind, []).extend(details)

    def __len__(self) -> int:
        return sum(map(len, self._found.values()))

    def lines(self, most: int | None = None) -> list[str]:
        """Return a line per kind, and below it a line per detail, printable and cut as errors are.

        >>> oddities = Oddities()
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
