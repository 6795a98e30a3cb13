"""Compares the sequences in use with the official names, split and count of a benchmark."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Split = Literal["test", "train", "all"]

MAX_NAMES = 3
"""Maximum number of names in a note of the summary."""

_SAME_QUOTES = str.maketrans("`´‘’", "''''")  # noqa: RUF001


@dataclass(frozen=True)
class Coverage:
    """The sequences in use, compared with the official ones.

    Attributes:
        benchmark: name of the benchmark.
        used: number of sequences in use.
        split: split of the benchmark; empty if it has one part only.
        official_count: number of sequences of the split by its publication; None if unknown.
        missing: names of official sequences that the folder lacks, as far as they are known.
        without_result: names of sequences without a result of the tracker.
        unusable: names of sequences that are left out because of errors.
        unofficial: whether the folder has no official name, so that its own lists and folders define the split.
        outside_split: names of the folder's sequences outside the split; they are not used.
    """

    benchmark: str
    used: int
    split: Split | Literal[""] = ""
    official_count: int | None = None
    missing: tuple[str, ...] = ()
    without_result: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()
    unofficial: bool = False
    outside_split: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether exactly the official sequences are in use, or their number is unknown."""
        return self._is_official(self.used)

    @property
    def matches_split(self) -> bool:
        """Whether the folder has exactly the official sequences, including those without a result and unusable ones."""
        return self._is_official(self.used + len(self.unusable) + len(self.without_result))

    def _is_official(self, count: int) -> bool:
        return self.official_count is None or (
            count == self.official_count and not self.missing and not self.unofficial
        )

    @property
    def summary(self) -> str:
        """The sequences in use, in one line.

        >>> Coverage("lasher", 245, "test", 245).summary
        'lasher, test split: 245 of 245 sequences'
        >>> Coverage("lasher", 1, "test", 245, missing=("car", "man")).summary
        'lasher, test split: 1 of 245 sequences; 2 are not in the copy: car, man'
        >>> Coverage("gtot", 51, official_count=50).summary
        'gtot: 51 sequences, the official count is 50'
        >>> Coverage("vtuav", 1).summary
        'vtuav: 1 sequence'
        """
        split = {"all": "all splits", "": ""}.get(self.split, f"{self.split} split")
        title = f"{self.benchmark}, {split}" if split else self.benchmark
        count = f"{self.used:,} sequence{'' if self.used == 1 else 's'}"
        if self.official_count is not None and self.unofficial:
            count += f", none of the official {self.official_count:,}"
        elif self.official_count is not None and self.used > self.official_count:
            count += f", the official count is {self.official_count:,}"
        elif self.official_count is not None:
            count = f"{self.used:,} of {self.official_count:,} sequences"
        notes = [
            "" if self.unofficial else _note(self.missing, "not in the copy"),
            _note(self.without_result, "without a result"),
            _note(self.unusable, "not usable"),
            f"{len(self.outside_split):,} outside the split are not used" if self.outside_split else "",
        ]
        return "; ".join([f"{title}: {count}", *filter(None, notes)])

    def to_json(self) -> dict[str, Any]:
        """Return the summary and its figures as plain values; ``split`` and ``official_count`` may be None."""
        return {
            "scored": self.summary,
            "split": self.split or None,
            "sequences_scored": self.used,
            "official_count": self.official_count,
            "sequences_missing": [*self.missing, *self.unusable, *self.without_result],
        }


def _note(names: tuple[str, ...], state: str) -> str:
    if not names:
        return ""
    quoted = ", ".join(names[:MAX_NAMES]) + (", ..." if len(names) > MAX_NAMES else "")
    return f"{len(names):,} {'is' if len(names) == 1 else 'are'} {state}: {quoted}"


def match_names(official: Iterable[str], present: Iterable[str]) -> dict[str, str]:
    """Return the official name of each present name that has one.

    Names match if they are equal. If no present name is equal, the only one that differs in case or quotes matches.
    """
    present = list(present)
    exact = set(present)
    similar: dict[str, list[str]] = {}
    for name in present:
        similar.setdefault(_normalize(name), []).append(name)
    matched: dict[str, str] = {}
    for name in official:
        candidates = [name] if name in exact else similar.get(_normalize(name), [])
        if len(candidates) == 1:
            matched.setdefault(candidates[0], name)
    return matched


def _normalize(name: str) -> str:
    """Return a name in lower case, with one kind of quotes and composed letters."""
    return unicodedata.normalize("NFC", name).casefold().translate(_SAME_QUOTES)
