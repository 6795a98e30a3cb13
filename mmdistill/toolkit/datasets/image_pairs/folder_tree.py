"""Lists the images of a folder tree without opening them, and reads the modality from names of files and folders.

A name is split into tokens: words, numbers and separators. Words such as ``visible`` or ``ir`` give the modality.
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
from mmdistill.toolkit.image_files import SUFFIXES, is_ignored, natural_sort_key

Modality = Literal["rgb", "tir"]


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


MODALITY_WORDS = Pair(
    rgb=_set("rgb visible visual vis vi color colour eo optical bgr"),
    tir=_set("tir infrared ir thermal lwir fir mwir therm thermo infra imgr"),
)
"""Words of each modality. NIR and SWIR are missing because they are reflected light, not thermal infrared."""

ABBREVIATIONS = Pair(rgb=_set("v vl c co w r opt"), tir=_set("i t ti th ther inf"))
"""Abbreviations of each modality: a whole folder name, or the first or last token of a file name."""

LABEL_WORDS = _set(
    "label labels annotation annotations annotated mask masks gt groundtruth depth segmentation semantic lbl"
)
"""Words of folders of labels, masks and depth, not images."""

SPLIT_WORDS = _set("train training trainval val valid validation test testing day night")
"""Words of folders of a part of a dataset."""

FILLER_WORDS = _set(
    "img imgs image images pic pics photo photos frame frames crop cropped lr hr bit bits "
    "data dataset dir folder raw aligned registered preview jpeg jpg png tif tiff cam camera sensor"
)
"""Words that do not distinguish images."""

MAX_DEPTH = 16
"""Maximum depth of folders below the root."""

_KNOWN_WORDS = MODALITY_WORDS.rgb | MODALITY_WORDS.tir | SPLIT_WORDS | FILLER_WORDS | LABEL_WORDS
_LONG_WORDS = ("infrared", "thermal", "visible")
_NOT_MODALITY = re.compile(r"(in|non)visible|(near|short\w*)infrared")

_TOKENS = re.compile(r"\d+|[^\W\d_]+|[\W_]+")
_IMAGE_SIZE = re.compile(r"\d{2,}[xX]\d{2,}")
_CAMEL_CASE = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SEPARATORS = str.maketrans(" -", "__")


def tokenize(name: str) -> tuple[str, ...]:
    """Return the words, numbers and separators of a name, in lower case.

    >>> tokenize("crop_LR_visible"), tokenize("trainRGB"), tokenize("FLIR-00001")
    (('crop', '_', 'lr', '_', 'visible'), ('train', 'rgb'), ('flir', '_', '00001'))
    """
    tokens: list[str] = []
    for token in _TOKENS.findall(name):
        if token[0].isalpha():
            tokens += _split_letters(token)
        else:
            tokens.append(token.translate(_SEPARATORS))
    return tuple(tokens)


@lru_cache(maxsize=4096)
def _split_letters(letters: str) -> tuple[str, ...]:
    """Return the words in letters without separators."""
    lower = letters.casefold()
    if lower in _KNOWN_WORDS:
        return (lower,)
    if words := _segment(lower):
        return words
    camel = _CAMEL_CASE.findall(letters) if letters.isascii() else []
    if len(camel) > 1:
        return tuple(word for part in camel for word in _split_letters(part))
    if not _NOT_MODALITY.fullmatch(lower):
        for word in _LONG_WORDS:
            if lower.startswith(word):
                return word, *_split_letters(lower[len(word) :])
            if lower.endswith(word):
                return *_split_letters(lower[: -len(word)]), word
    return (lower,)


def _segment(lower: str) -> tuple[str, ...]:
    """Return the known words whose concatenation is the text; empty if there are none."""
    for end in range(len(lower), 1, -1):
        if lower[:end] in _KNOWN_WORDS:
            if end == len(lower):
                return (lower,)
            if rest := _segment(lower[end:]):
                return lower[:end], *rest
    return ()


def is_separator(token: str) -> bool:
    """Return whether a token is neither a word nor a number."""
    return not token[0].isalnum()


def remove_words(
    tokens: tuple[str, ...], words: frozenset[str], abbreviations: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """Return tokens without some words and the separator beside each; abbreviations are removed first and last only.

    >>> remove_words(tokenize("FLIR_rgb_0001"), _set("rgb"))
    ('flir', '_', '0001')
    """
    kept: list[str] = []
    for index, token in enumerate(tokens):
        if token in words or (token in abbreviations and index in (0, len(tokens) - 1)):
            if kept and is_separator(kept[-1]):
                kept.pop()
        elif kept or not is_separator(token):
            kept.append(token)
    while kept and is_separator(kept[-1]):
        kept.pop()
    return tuple(kept)


@lru_cache(maxsize=4096)
def modality_of(name: str) -> Modality | None:
    """Return the modality in a folder's name; None for none or both (``rgb_tir``)."""
    tokens = tokenize(name)
    rgb = any(token in MODALITY_WORDS.rgb for token in tokens)
    tir = any(token in MODALITY_WORDS.tir for token in tokens) and "near" not in tokens
    return None if rgb == tir else "rgb" if rgb else "tir"


@lru_cache(maxsize=4096)
def modality_of_abbreviation(name: str) -> Modality | None:
    """Return the modality of a folder's name that is an abbreviation, such as ``T``; None for other names."""
    name = name.casefold()
    return "rgb" if name in ABBREVIATIONS.rgb else "tir" if name in ABBREVIATIONS.tir else None


def is_modality(name: str) -> bool:
    """Return whether a folder's name gives a modality and nothing else, such as ``rgb`` or ``thermal_8_bit``."""
    return (modality_of(name) or modality_of_abbreviation(name)) is not None and not distinguishing_words(name)


def has_no_modality(name: str) -> bool:
    """Return whether a folder's name has no word or abbreviation of a modality."""
    return modality_of_abbreviation(name) is None and not any(map(_is_modality_word, tokenize(name)))


def _is_modality_word(token: str) -> bool:
    return token in MODALITY_WORDS.rgb or token in MODALITY_WORDS.tir


@lru_cache(maxsize=4096)
def distinguishing_words(name: str) -> tuple[str, ...]:
    """Return the words of a folder's name without those of a modality and fillers such as ``images``."""
    if modality_of_abbreviation(name):
        return ()
    words = [token for token in tokenize(_IMAGE_SIZE.sub("", name)) if not is_separator(token)]
    if not {"bit", "bits"}.isdisjoint(words):
        words = [word for word in words if not word.isdecimal()]
    return tuple(word for word in words if word not in FILLER_WORDS and not _is_modality_word(word))


def may_correspond(first: str, second: str) -> bool:
    """Return whether the distinguishing words of one folder's name are all in the other's."""
    words = set(distinguishing_words(first)), set(distinguishing_words(second))
    return words[0] <= words[1] or words[1] <= words[0]


@lru_cache(maxsize=4096)
def is_label_folder(name: str) -> bool:
    """Return whether a folder's name is one of labels, masks or depth."""
    return not LABEL_WORDS.isdisjoint(tokenize(name))


class ImageFile(NamedTuple):
    """An image file that is not opened.

    Attributes:
        folders: names of the folders between the root of the listing and the image.
        name: name of the file.
        parent: path of its folder.
    """

    folders: tuple[str, ...]
    name: str
    parent: Path

    @property
    def path(self) -> Path:
        """Path of the file."""
        return self.parent / self.name

    @property
    def stem(self) -> str:
        """Name without suffix."""
        return self.name[: self.name.rfind(".")]


@dataclass(eq=False)
class Folder:
    """A folder and all folders below it, without hidden and system entries.

    Attributes:
        path: path of the folder.
        names: names of the folders from the root to this one, without the root.
        images: names of its images, unordered.
        children: its sub-folders, in natural order.
        ignored: names of its system entries.
        unreadable: errors of entries that have the name of an image and are none.
    """

    path: Path
    names: tuple[str, ...] = ()
    images: list[str] = field(default_factory=list)
    children: list[Folder] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the folder; empty for the root."""
        return self.names[-1] if self.names else ""

    @cached_property
    def count(self) -> int:
        """Number of images in the folder and below it."""
        return len(self.images) + sum(child.count for child in self.children)

    def walk(self) -> Iterator[Folder]:
        """Yield the folder and all folders below it."""
        yield self
        for child in self.children:
            yield from child.walk()

    def files(self, folders: tuple[str, ...] = ()) -> Iterator[ImageFile]:
        """Yield the images in the folder and below it, without those in label folders."""
        for name in self.images:
            yield ImageFile(folders, name, self.path)
        for child in self.children:
            if not is_label_folder(child.name):
                yield from child.files((*folders, child.name))

    def __str__(self) -> str:
        return printable("/".join(self.names) or self.path)


def scan(root: Path, *, skip: Path | None = None) -> Folder:
    """Return the tree of a folder; links are followed unless they lead to a folder above.

    Args:
        root: the folder.
        skip: a folder below it to skip.

    Raises:
        DataError: the folder, or one below it, can't be listed.
    """
    if not root.is_dir():
        raise DataError(f"{root}: expected a folder of pairs, there is none")
    return _scan(Folder(root), set() if skip is None else {_identity(skip)})


def _scan(folder: Folder, skip: set[tuple[int, int]]) -> Folder:
    skip = skip | {_identity(folder.path)}
    children = []
    try:
        with os.scandir(folder.path) as entries:
            for entry in entries:
                name = entry.name
                if is_ignored(name):
                    if not name.startswith(".") or name.startswith("._"):
                        folder.ignored.append(name)
                elif entry.is_dir():
                    children.append(name)
                elif name[name.rfind(".") :].lower() in SUFFIXES:
                    if entry.is_file():
                        folder.images.append(name)
                    else:
                        folder.unreadable.append(f"{printable(entry.path)}: expected an image, it is no regular file")
    except OSError as error:
        raise DataError(f"{folder.path}: cannot list the folder: {error.strerror}") from error
    if len(folder.names) < MAX_DEPTH:
        for name in sorted(children, key=natural_sort_key):
            child = Folder(folder.path / name, (*folder.names, name))
            if _identity(child.path) not in skip:
                folder.children.append(_scan(child, skip))
    return folder


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
