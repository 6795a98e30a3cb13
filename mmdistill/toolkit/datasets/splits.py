"""Which sequences of a benchmark are used: the official split and count, and what a copy has of them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["test", "train", "all"]

MAX_NAMES = 3
"""How many missing names a line quotes."""

_SAME_QUOTES = str.maketrans("`´‘’", "''''")  # noqa: RUF001


@dataclass(frozen=True)
class Coverage:
    """Which part of a benchmark is used, compared with its official count.

    Attributes:
        benchmark: its name.
        used: how many sequences are used.
        split: which part of the benchmark; empty if it has one part only.
        official: how many sequences the part has by its publication; None where that is not known.
        missing: names of official sequences that the copy lacks, as far as they are known.
        without_result: names of sequences for which a tracker has no result.
        unusable: names of sequences that are left out because they can't be used.
        unofficial: whether the copy has no sequence of the official list, and says itself which are the split's.
        others: names of the copy's sequences outside the split; they are not used.
    """

    benchmark: str
    used: int
    split: Split | Literal[""] = ""
    official: int | None = None
    missing: tuple[str, ...] = ()
    without_result: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    unofficial: bool = False
    others: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether exactly the official sequences are used, or nobody knows how many these are."""
        return self.official is None or (self.used == self.official and not self.missing and not self.unofficial)

    @property
    def matches_split(self) -> bool:
        """Whether the copy has exactly the official sequences, of which some may be left out on request."""
        present = self.used + len(self.unusable) + len(self.without_result)
        return self.official is None or (present == self.official and not self.missing and not self.unofficial)

    @property
    def line(self) -> str:
        """What is used, in one line.

        >>> Coverage("lasher", 245, "test", 245).line
        'lasher, test split: 245 of 245 sequences'
        >>> Coverage("lasher", 1, "test", 245, missing=("car", "man")).line
        'lasher, test split: 1 of 245 sequences; 2 are not in the copy: car, man'
        >>> Coverage("gtot", 51, official=50).line
        'gtot: 51 sequences, the official count is 50'
        >>> Coverage("vtuav", 1).line
        'vtuav: 1 sequence'
        """
        parts = {"all": "all splits", "": ""}.get(self.split, f"{self.split} split")
        title = f"{self.benchmark}, {parts}" if parts else self.benchmark
        count = f"{self.used:,} sequence{'' if self.used == 1 else 's'}"
        if self.official is not None and self.unofficial:
            count += f", none of the official {self.official:,}"
        elif self.official is not None and self.used > self.official:
            count += f", the official count is {self.official:,}"
        elif self.official is not None:
            count = f"{self.used:,} of {self.official:,} sequences"
        notes = [
            "" if self.unofficial else _counted(self.missing, "not in the copy"),
            _counted(self.without_result, "without a result"),
            _counted(self.unusable, "not usable"),
            f"{len(self.others):,} outside the split are not used" if self.others else "",
        ]
        return "; ".join([f"{title}: {count}", *filter(None, notes)])

    def to_json(self) -> dict[str, Any]:
        """Return the line and its figures as plain values; ``split`` and ``official_count`` may be None."""
        return {
            "scored": self.line,
            "split": self.split or None,
            "sequences_scored": self.used,
            "official_count": self.official,
            "sequences_missing": [*self.missing, *self.unusable, *self.without_result],
        }


def alike(name: str) -> str:
    """Return a name without what people write differently: case, kinds of quotes, composed letters."""
    return unicodedata.normalize("NFC", name).casefold().translate(_SAME_QUOTES)


def match_names(wanted: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Return for each of the present names that is meant by a wanted one, that wanted name.

    Names are equal, or differ in case or quotes alone where nothing equal is present and one name alone does.
    """
    present = list(present)
    exact = set(present)
    similar: dict[str, list[str]] = {}
    for name in present:
        similar.setdefault(alike(name), []).append(name)
    matched: dict[str, str] = {}
    for name in wanted:
        found = [name] if name in exact else similar.get(alike(name), [])
        if len(found) == 1:
            matched.setdefault(found[0], name)
    return matched


def _counted(names: tuple[str, ...], what: str) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
    return f"{len(names):,} {'is' if len(names) == 1 else 'are'} {what}: {shown}"
