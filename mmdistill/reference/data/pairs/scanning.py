"""One walk over a folder: which images lie where. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from mmdistill.reference.data.folders import is_stray
from mmdistill.reference.data.image_files import SUFFIXES
from mmdistill.reference.data.natural_order import natural_order
from mmdistill.reference.data.pairs.words import holds_no_images
from mmdistill.reference.errors import DataError, printable

MAX_DEPTH = 16


class ImageFile(NamedTuple):
    """An image, not opened yet.

    Attributes:
        folder: names of the folders between where a search began and the image.
        name: the file's name.
        parent: the folder that it lies in.
    """

    folder: tuple[str, ...]
    name: str
    parent: Path

    @property
    def path(self) -> Path:
        """The whole path."""
        return self.parent / self.name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return self.name[: self.name.rfind(".")]


@dataclass(eq=False)
class Folder:
    """A folder and all below it; stray files and folders are left out.

    Attributes:
        path: where it is.
        parts: names of the folders between the root and it, its own the last.
        images: names of its images, in no order.
        texts: names of its text files.
        children: its sub-folders, in natural order.
        stray: names of the entries that a system left here.
        unreadable: why an entry that is named as an image is none, a line each.
    """

    path: Path
    parts: tuple[str, ...] = ()
    images: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    children: list[Folder] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Its name; empty for the root."""
        return self.parts[-1] if self.parts else ""

    @cached_property
    def count(self) -> int:
        """How many images are in it and below it."""
        return len(self.images) + sum(child.count for child in self.children)

    def walk(self) -> Iterator[Folder]:
        """Yield the folder and all below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def files(self, below: tuple[str, ...] = ()) -> Iterator[ImageFile]:
        """Yield its images and those below it, but none of folders that hold labels and the like."""
        for name in self.images:
            yield ImageFile(below, name, self.path)
        for child in self.children:
            if not holds_no_images(child.name):
                yield from child.files((*below, child.name))

    def __str__(self) -> str:
        return printable("/".join(self.parts) or self.path)


def scan(root: Path, *, skip: Path | None = None) -> Folder:
    """Return what is in a folder; links are followed, but not in circles.

    Args:
        root: the folder.
        skip: a folder below it that is left out.

    Raises:
        DataError: the folder, or one below it, can't be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of pairs, there is none")
    left_out = set() if skip is None else {_identity(skip)}
    return _scan(Folder(root), left_out)


def _scan(folder: Folder, above: set[tuple[int, int]]) -> Folder:
    identity = _identity(folder.path)
    children = []
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = entry.name
                if is_stray(name):
                    if not name.startswith(".") or name.startswith("._"):
                        folder.stray.append(name)
                elif entry.is_dir():
                    children.append(name)
                elif name[name.rfind(".") :].lower() in SUFFIXES:
                    if entry.is_file():
                        folder.images.append(name)
                    else:
                        folder.unreadable.append(f"{printable(entry.path)}: expected an image, it is no regular file")
                elif name.endswith((".txt", ".TXT")):
                    folder.texts.append(name)
    except OSError as error:
        raise DataError(f"{folder.path}: cannot list the folder: {error.strerror}") from error
    if len(folder.parts) < MAX_DEPTH:
        for name in sorted(children, key=natural_order):
            child = Folder(folder.path / name, (*folder.parts, name))
            if _identity(child.path) not in above | {identity}:
                folder.children.append(_scan(child, above | {identity}))
    return folder


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
