"""The license of each file of a Debian package, from its machine-readable copyright file.

The format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath


class Licenses:
    """The licenses of a package's files.

    Args:
        text: the package's copyright file.
        default: the license of all files if the copyright file is not machine-readable, read by a person.
    """

    def __init__(self, text: str, default: str = "") -> None:
        self.default = default
        self._patterns: list[tuple[str, str]] = []
        for paragraph in paragraphs(text):
            short_name = paragraph.get("License", "").split("\n")[0].strip()
            if "Files" in paragraph and short_name:
                self._patterns += [(pattern, short_name) for pattern in paragraph["Files"].split()]

    def find(self, path: str) -> str:
        """Return the short name of a file's license; empty if it is not known.

        The patterns are relative to the source package, whose folders the installed package renames. So a pattern
        matches the end of an installed path, or names the file itself. The last match counts.

        Args:
            path: the installed file.
        """
        parts = PurePosixPath(path).parts
        ends = ["/".join(parts[start:]) for start in range(len(parts))]
        found = [license for pattern, license in self._patterns if _matches(pattern, ends)]
        return found[-1] if found else self.default


def _matches(pattern: str, ends: Sequence[str]) -> bool:
    return any(fnmatchcase(end, pattern) for end in ends) or PurePosixPath(pattern).name == ends[-1]


def paragraphs(text: str) -> Iterator[Mapping[str, str]]:
    """Yield the fields of each paragraph of a copyright file; continuation lines are joined by line ends."""
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in block.splitlines():
            if match := re.match(r"([A-Za-z-]+):\s*(.*)", line):
                name = match[1]
                fields[name] = match[2]
            elif name and line[:1] in (" ", "\t"):
                fields[name] += "\n" + line.strip()
        yield fields
