"""Searches a folder for image pairs: by names of folders, by names of files, or side by side in one image."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.image_pairs.folder_tree import (
    Folder,
    ImageFile,
    Modality,
    distinguishing_words,
    is_label_folder,
    may_correspond,
    modality_of,
    scan,
)
from mmdistill.toolkit.datasets.image_pairs.matching import (
    MatchedFiles,
    MatchedFolders,
    match_files,
    match_folders,
    match_mixed_files,
)
from mmdistill.toolkit.datasets.image_pairs.pairs import (
    DEFAULT_CACHE_BYTES,
    Pairs,
    PairSource,
    SideBySide,
    TwoFiles,
    side_by_side_problem,
)
from mmdistill.toolkit.image_files import SUFFIXES, natural_sort_key, sort_naturally
from mmdistill.toolkit.video import OnBroken

logger = logging.getLogger(__name__)

EXPECTED_NAMES = (
    "Expected names of folders or files with rgb, visible, vis, vi, color ... and tir, infrared, ir, thermal, lwir ..."
)
TWO_FOLDERS = "--rgb DIR --tir DIR reads any two folders"

MAX_EXAMPLES = 3
MAX_PARENTS = 3
"""Maximum number of folders, from the given one upwards, whose names may give its modality: ``visible/train``."""


class NoPairsError(DataError):
    """A folder has nothing that could be pairs."""


def open_pairs(
    root: str | Path | None = None,
    *,
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    side_by_side: bool = False,
    on_broken: OnBroken = "stop",
    cache_bytes: int = DEFAULT_CACHE_BYTES,
    warn: Callable[[str], object] = logger.warning,
    alignment: Alignment | None = None,
) -> Pairs:
    """Return the pairs in a folder, in natural order of their names.

    Only names are read, and up to eight images if RGB and TIR may be side by side. Letter case does not matter. These
    layouts are supported:

    - two folders named for RGB and TIR, such as ``rgb`` and ``tir`` or ``train/vi`` and ``train/ir``, at any depth,
      with the same paths below them, as LLVIP, FLIR, KAIST, M3FD and MSRS;
    - one folder of files whose names give the modality, such as ``1_co.png`` and ``1_ir.png``;
    - images with RGB in the left half and TIR in the right half, if the left is colored and the right is gray.

    Args:
        root: the folder.
        rgb: folder of the RGB images, with ``tir`` instead of ``root``.
        tir: folder of the TIR images.
        side_by_side: read all images as RGB left, TIR right, without a check of their colors.
        on_broken: ``stop`` raises the error of a file without a counterpart, ``skip`` adds it to ``problems``.
        cache_bytes: size of the cache of decoded images, bytes.
        warn: receives warnings of inferred folders, side-by-side images and resized images.
        alignment: how the two cameras of all pairs agree; see ``Pairs``.

    Raises:
        DataError: the folder is missing, has no pair, or has several folders that may correspond.
    """
    if rgb is not None or tir is not None:
        found = _search_two(root, rgb, tir, side_by_side=side_by_side)
    elif root is None:
        raise DataError("pairs: expected a folder of pairs, or a folder of RGB and one of TIR images; none is given")
    elif side_by_side:
        found = _FoundPairs(Path(root), [scan(Path(root))])
        found.add_side_by_side(found.trees[0].files(), check=False)
    else:
        found = _search(Path(root), warn)
    if found.problems and on_broken == "stop":
        raise DataError(found.problems[0])
    sources = {name: found.sources[name] for name in _sort_by_folder(found.sources, warn)}
    options = found.other_arguments()
    return Pairs(
        found.root, sources, found.problems, cache_bytes=cache_bytes, warn=warn, alignment=alignment, **options
    )


class _FoundPairs:
    """The pairs and problems that a search found."""

    def __init__(self, root: Path, trees: list[Folder], title: str | None = None) -> None:
        self.root, self.trees, self.title = root, trees, title
        self.sources: dict[str, PairSource] = {}
        self.problems = [line for tree in trees for folder in tree.walk() for line in folder.unreadable]
        self.ambiguous: list[str] = []
        self.used: set[Folder] = set()
        self.unused_images: dict[Folder, int] = {}
        self.parent_folders: list[Path] = []

    def add(self, pairs: Iterable[tuple[tuple[str, ...], Pair[ImageFile]]]) -> None:
        """Add pairs of files, each with the names of the folders above both of them."""
        pairs = list(pairs)
        names = ["/".join((*folders, *pair.rgb.folders, pair.rgb.name)) for folders, pair in pairs]
        if len(set(names)) < len(names):
            names = [pair.rgb.path.relative_to(self.root).as_posix() for _, pair in pairs]
        self.sources |= {
            name: TwoFiles(pair.rgb.path, pair.tir.path) for name, (_, pair) in zip(names, pairs, strict=True)
        }

    def add_problems(self, matched: MatchedFiles, folders: Pair[str]) -> None:
        """Add the files without a counterpart and those with several."""
        for side, other, modality in ((0, 1, "a TIR"), (1, 0, "an RGB")):
            self.problems += [
                f"{printable(file.path)}: expected {modality} image of the same name in {folders[other]}, there is none"
                for file in matched.unmatched[side]
            ]
        ambiguous = []
        for group in matched.ambiguous:
            rgb, tir = (", ".join(printable(file.name) for file in files[:MAX_EXAMPLES]) for files in group)
            path = printable(group.rgb[0].path)
            ambiguous.append(f"{path}: expected one RGB and one TIR image of this name, got RGB: {rgb}; TIR: {tir}")
        self.ambiguous += ambiguous
        self.problems += ambiguous

    def add_side_by_side(self, files: Iterable[ImageFile], *, check: bool) -> None:
        """Add images with RGB and TIR side by side."""
        self.sources |= {"/".join((*file.folders, file.name)): SideBySide(file.path, check=check) for file in files}
        self.used.update(self.trees)
        if not self.sources:
            raise DataError(f"{self.root}: expected images with RGB and TIR side by side, the folder has none")

    def other_arguments(self) -> dict[str, Any]:
        """Return the arguments of ``Pairs`` besides the pairs and problems."""
        return {
            "title": self.title,
            "skipped": [line for tree in self.trees for line in self._skipped(tree)],
            "ignored": [folder.path / name for tree in self.trees for folder in tree.walk() for name in folder.ignored],
            "parent_folders": self.parent_folders,
        }

    def _skipped(self, folder: Folder) -> Iterator[str]:
        """Yield a line for each folder of images that belong to no pair by their names."""
        unused = 0 if folder in self.used else self.unused_images.get(folder, len(folder.images))
        if unused:
            yield f"{printable(folder.path)}: {unused:,} images"
        for child in folder.children:
            if is_label_folder(child.name):
                if child.count:
                    yield f"{printable(child.path)}: {child.count:,} images"
            elif folder not in self.used:
                yield from self._skipped(child)


def _search(root: Path, warn: Callable[[str], object]) -> _FoundPairs:
    """Search a folder for pairs by names, then for side-by-side images."""
    tree = scan(root)
    folders = match_folders(tree)
    found = _FoundPairs(root, [tree])
    found.problems += map(_unmatched_folder, folders.unmatched)
    found.used.update(folders.unmatched)
    pairs: list[tuple[tuple[str, ...], Pair[ImageFile]]] = []
    for rgb, tir in folders.pairs:
        if rgb.path.samefile(tir.path):
            raise DataError(f"{tir.path}: expected another folder than {rgb.path}, they are the same one")
        files = match_files(rgb.files(), tir.files())
        own_name = "_".join(distinguishing_words(rgb.name))
        above = (*rgb.names[:-1], *([own_name] if own_name else []))
        pairs += [(above, pair) for pair in files.pairs]
        found.add_problems(files, Pair(printable(rgb.path), printable(tir.path)))
        found.used.update((rgb, tir))
        found.parent_folders.append(rgb.path.parent)
    for folder in [] if folders.pairs else folders.unnamed:
        files = match_mixed_files([ImageFile(folder.names, name, folder.path) for name in folder.images])
        if files.pairs or files.ambiguous:
            pairs += [((), pair) for pair in files.pairs]
            found.unused_images[folder] = len(folder.images) - files.count
            found.add_problems(files, Pair(printable(folder.path), printable(folder.path)))
    found.add(pairs)
    if folders.pairs and not pairs:
        raise _no_matching_files(found, folders.pairs[0])
    if found.ambiguous and not pairs:
        raise DataError(found.ambiguous[0])
    for folder in folders.inferred:
        warn(f"{printable(folder.path)}: read as the counterpart of the modality folder beside it")
    if not pairs:
        _search_side_by_side(found, folders, warn)
    return found


def _search_side_by_side(found: _FoundPairs, folders: MatchedFolders, warn: Callable[[str], object]) -> None:
    """Add side-by-side images, or raise the error of a folder without pairs."""
    tree, problem = found.trees[0], None
    files = sorted(tree.files(), key=lambda file: natural_sort_key(file.name))
    if files and not folders.unmatched and _one_modality_problem(found.root) is None:
        problem = side_by_side_problem([file.path for file in files])
        if problem is None:
            found.add_side_by_side(files, check=True)
            warn(f"{printable(found.root)}: RGB is read from the left half of each image, TIR from the right half")
            return
    raise _no_pairs(found.root, tree, folders, problem)


def _search_two(
    root: str | Path | None, rgb: str | Path | None, tir: str | Path | None, *, side_by_side: bool
) -> _FoundPairs:
    """Match all files below one folder with those below another, whatever their names."""
    if rgb is None or tir is None:
        missing, given = ("--tir", f"--rgb {rgb}") if tir is None else ("--rgb", f"--tir {tir}")
        raise DataError(f"{missing}: expected a folder of images, as {given} is given")
    if root is not None or side_by_side:
        other = "--side-by-side" if side_by_side else f"the folder of pairs {root}"
        raise DataError(f"--rgb, --tir: are given in place of {other}; leave one out")
    folders = Pair(Path(rgb), Path(tir))
    for option, folder in zip(("--rgb", "--tir"), folders, strict=True):
        if not folder.is_dir():
            raise DataError(f"{option}: expected a folder of images, there is no folder {folder}")
    if folders.rgb.samefile(folders.tir):
        raise DataError(f"--tir: expected another folder than --rgb, both are {folders.rgb}")
    trees = [scan(folders.rgb, skip=folders.tir), scan(folders.tir, skip=folders.rgb)]
    found = _FoundPairs(folders.rgb, trees, " and ".join(map(printable, folders)))
    matched = match_files(trees[0].files(), trees[1].files())
    found.add(((), pair) for pair in matched.pairs)
    found.add_problems(matched, Pair(*map(printable, folders)))
    found.used.update(trees)
    if not found.sources:
        raise _no_matching_files(found, Pair(*trees))
    return found


def _sort_by_folder(names: Iterable[str], warn: Callable[[str], object]) -> Iterator[str]:
    """Yield names in natural order, folder by folder."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    for folder in sorted(folders, key=lambda each: [natural_sort_key(part) for part in each.split("/")]):
        yield from sort_naturally(folders[folder], lambda name: name.rpartition("/")[2], printable(folder), warn)


def _unmatched_folder(folder: Folder) -> str:
    """Return the problem of a folder of one modality."""
    missing = "RGB" if modality_of(folder.name) == "tir" else "TIR"
    return f"{printable(folder.path)}: expected the {missing} folder beside it, there is none ({folder.count:,} images)"


def _no_matching_files(found: _FoundPairs, folders: Pair[Folder]) -> DataError:
    """Return the error of two folders without files of one name."""
    if found.ambiguous:
        return DataError(found.ambiguous[0])
    rgb, tir = (["/".join((*file.folders, file.name)) for file in folder.files()] for folder in folders)
    got = f"{len(rgb):,} RGB images ({_examples(rgb)}) and {len(tir):,} TIR images ({_examples(tir)})"
    where = " and ".join(printable(folder.path) for folder in folders)
    return DataError(f"{where}: expected pairs of one name, got {got}")


def _no_pairs(root: Path, tree: Folder, folders: MatchedFolders, side_by_side: str | None) -> NoPairsError:
    """Return the error of a folder without pairs; ``side_by_side`` is why its images are not side by side."""
    where = printable(root)
    if not tree.count:
        unreadable = [line for folder in tree.walk() for line in folder.unreadable]
        return NoPairsError(
            unreadable[0] if unreadable else f"{where}: expected images ({' '.join(sorted(SUFFIXES))}), none"
        )
    if problem := _one_modality_problem(root):
        return NoPairsError(f"{where}: {problem}")
    if folders.unmatched:
        return NoPairsError(f"{_unmatched_folder(folders.unmatched[0])}; {TWO_FOLDERS}. {EXPECTED_NAMES}")
    halves = f" Not side by side: {side_by_side}." if side_by_side else ""
    return NoPairsError(f"{where}: no RGB-TIR pairs in {_contents(tree)}.{halves} {EXPECTED_NAMES}; {TWO_FOLDERS}")


def _one_modality_problem(root: Path) -> str | None:
    """Return the problem of a folder of one modality by its name or a name above it, or None."""
    path = Path(os.path.abspath(root))  # noqa: PTH100 - links keep their names
    for number, folder in enumerate([path, *path.parents][:MAX_PARENTS]):
        modality = modality_of(folder.name)
        if modality is None:
            continue
        counterparts = [
            name
            for name in _list_modality("tir" if modality == "rgb" else "rgb", folder.parent)
            if may_correspond(folder.name, name)
        ]
        if counterparts:
            name, counterpart = printable(folder.name), printable(counterparts[0])
            parent = printable(folder.parent)
            return f"has {modality.upper()} images only, by the name {name!r} beside {counterpart!r}; give {parent}"
        if number == 0:
            return f"has {modality.upper()} images only, by its name; give the folder of both modalities"
    return None


def _list_modality(modality: Modality, parent: Path) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.name for entry in entries if modality_of(entry.name) == modality and entry.is_dir())
    except OSError:
        return []


def _contents(tree: Folder) -> str:
    folders = [folder for folder in tree.walk() if folder.images]
    if len(folders) == 1 and folders[0] is tree:
        return f"{len(tree.images):,} images ({_examples(tree.images)})"
    examples = ", ".join(f"{folder} ({len(folder.images):,})" for folder in folders[:MAX_EXAMPLES])
    more = f" and {len(folders) - MAX_EXAMPLES:,} more" if len(folders) > MAX_EXAMPLES else ""
    return f"the folders {examples}{more}" if len(folders) > 1 else f"the folder {examples}"


def _examples(names: Sequence[str]) -> str:
    first = sorted(names, key=natural_sort_key)[:2]
    return ", ".join(printable(name) for name in first) + (" ..." if len(names) > len(first) else "")
