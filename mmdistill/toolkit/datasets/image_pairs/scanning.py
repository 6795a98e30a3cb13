"""One walk over a folder: which images lie where. No file is opened.

Which modality a name of a folder or file says, by the words in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Literal, NamedTuple

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.folder_sequence import is_stray
from mmdistill.toolkit.image_files import SUFFIXES, natural_order

Side = Literal["rgb", "tir"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


WORDS = Pair(
    rgb=_set("rgb visible visual vis vi color color eo optical bgr"),
    tir=_set("tir infrared ir thermal lwir fir mwir therm thermo infra imgr"),
)
"""The words of each modality. NIR and SWIR are reflected light, no thermal infrared."""

WEAK_WORDS = Pair(rgb=_set("v vl c co w r opt"), tir=_set("i t ti th ther inf"))
"""Short forms. They count only as a whole folder name, or first or last in a file name, and with a partner."""

NO_IMAGES = _set(
    "label labels annotation annotations annotated mask masks gt groundtruth depth segmentation semantic lbl"
)
"""Words of folders that hold something about the images."""

_SPLITS = _set("train training trainval val valid validation test testing day night")
FILLERS = _set(
    "img imgs image images pic pics photo photos frame frames crop cropped lr hr bit bits "
    "data dataset dir folder raw aligned registered preview jpeg jpg png tif tiff cam camera sensor"
)
"""Words that say nothing about which images these are."""

_KNOWN = WORDS.rgb | WORDS.tir | _SPLITS | FILLERS | NO_IMAGES
_LONG = ("infrared", "thermal", "visible")
_NOT_LONG = re.compile(r"(in|non)visible|(near|short\w*)infrared")

_PIECES = re.compile(r"\d+|[^\W\d_]+|[\W_]+")
_SIZE = re.compile(r"\d{2,}[xX]\d{2,}")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SEPARATORS = str.maketrans(" -", "__")


def pieces(name: str) -> tuple[str, ...]:
    """Return a name's words, numbers and what separates them, in small letters.

    >>> pieces("crop_LR_visible"), pieces("trainRGB"), pieces("FLIR-00001")
    (('crop', '_', 'lr', '_', 'visible'), ('train', 'rgb'), ('flir', '_', '00001'))
    """
    found: list[str] = []
    for piece in _PIECES.findall(name):
        if piece[0].isalpha():
            found += _subwords(piece)
        else:
            found.append(piece.translate(_SEPARATORS))
    return tuple(found)


def is_word(piece: str) -> bool:
    """Return whether a piece is a word or a number, and no separator."""
    return piece[0].isalnum()


@lru_cache(maxsize=4096)
def side_of(name: str) -> Side | None:
    """Return the modality that a folder's name says; None where it says none or both (``rgb_tir``)."""
    words = pieces(name)
    rgb = any(word in WORDS.rgb for word in words)
    tir = any(word in WORDS.tir for word in words) and "near" not in words
    return None if rgb == tir else "rgb" if rgb else "tir"


@lru_cache(maxsize=4096)
def weak_side_of(name: str) -> Side | None:
    """Return the modality that a folder's whole name is a short form of, such as ``T``."""
    name = name.casefold()
    return "rgb" if name in WEAK_WORDS.rgb else "tir" if name in WEAK_WORDS.tir else None


def is_modality(name: str) -> bool:
    """Return whether a folder's name says a modality and nothing else, such as ``rgb`` or ``thermal_8_bit``."""
    return (side_of(name) is not None or weak_side_of(name) is not None) and not rest_of(name)


def names_none(name: str) -> bool:
    """Return whether a folder's name says nothing of modalities, not even of both."""
    return weak_side_of(name) is None and (WORDS.rgb | WORDS.tir).isdisjoint(pieces(name))


@lru_cache(maxsize=4096)
def rest_of(name: str) -> tuple[str, ...]:
    """Return what a folder's name says besides its modality and words such as "images": ``("train",)``."""
    words = [word for word in pieces(_SIZE.sub("", name)) if is_word(word)]
    if not {"bit", "bits"}.isdisjoint(words):
        words = [word for word in words if not word.isdecimal()]
    known = WORDS.rgb | WORDS.tir | FILLERS
    rest = tuple(word for word in words if word not in known)
    return () if weak_side_of(name) else rest


def may_be_partners(first: str, second: str) -> bool:
    """Return whether all that one folder's name says besides its modality is in the other's name too."""
    rests = set(rest_of(first)), set(rest_of(second))
    return rests[0] <= rests[1] or rests[1] <= rests[0]


@lru_cache(maxsize=4096)
def holds_no_images(name: str) -> bool:
    """Return whether a folder's name says that it holds labels, masks or the like."""
    return not NO_IMAGES.isdisjoint(pieces(name))


def without(parts: tuple[str, ...], words: frozenset[str], weak: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """Return pieces without some words and the separator beside each; ``weak`` words go where first or last.

    >>> without(pieces("FLIR_rgb_0001"), _set("rgb"))
    ('flir', '_', '0001')
    """
    kept: list[str] = []
    for number, piece in enumerate(parts):
        if piece in words or (piece in weak and number in (0, len(parts) - 1)):
            if kept and not is_word(kept[-1]):
                kept.pop()
        elif is_word(piece) or kept:
            kept.append(piece)
    while kept and not is_word(kept[-1]):
        kept.pop()
    return tuple(kept)


@lru_cache(maxsize=4096)
def _subwords(chunk: str) -> tuple[str, ...]:
    """Return the words that letters without a separator are made of."""
    low = chunk.casefold()
    if low in _KNOWN:
        return (low,)
    if known := _segmented(low):
        return known
    camel = _CAMEL.findall(chunk) if chunk.isascii() else []
    if len(camel) > 1:
        return tuple(word for part in camel for word in _subwords(part))
    if not _NOT_LONG.fullmatch(low):
        for word in _LONG:
            if low.startswith(word):
                return word, *_subwords(low[len(word) :])
            if low.endswith(word):
                return *_subwords(low[: -len(word)]), word
    return (low,)


def _segmented(low: str) -> tuple[str, ...]:
    """Return known words that together are the text; empty where there are none."""
    for end in range(len(low), 1, -1):
        if low[:end] in _KNOWN:
            if end == len(low):
                return (low,)
            if rest := _segmented(low[end:]):
                return low[:end], *rest
    return ()


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
