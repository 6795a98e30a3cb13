"""Finding the pairs in a folder: folders by modality, names by modality, or images side by side."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.image_pairs.matching import Layout, Matched, find_layout, match_files, match_mixed
from mmdistill.toolkit.datasets.image_pairs.not_found import no_partners, not_found, one_modality, partner_missing
from mmdistill.toolkit.datasets.image_pairs.pairs import (
    MEMORY,
    Pairs,
    SideBySide,
    Source,
    TwoFiles,
    why_not_side_by_side,
)
from mmdistill.toolkit.datasets.image_pairs.scanning import Folder, ImageFile, holds_no_images, rest_of, scan
from mmdistill.toolkit.image_files import natural_order, sort_naturally
from mmdistill.toolkit.video import OnBroken

logger = logging.getLogger(__name__)


def open_pairs(
    root: str | Path | None = None,
    *,
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    side_by_side: bool = False,
    on_broken: OnBroken = "stop",
    memory: int = MEMORY,
    warn: Callable[[str], object] = logger.warning,
) -> Pairs:
    """Return the pairs in a folder, in natural order of their names.

    The folder is walked once, and only names count: no image is read, but up to eight where RGB and TIR may lie side by
    side. These layouts are read, in any letter case:

    - two folders named for RGB and TIR, such as ``rgb`` and ``tir`` or ``train/vi`` and ``train/ir``, at any depth,
      with the same paths below them, as LLVIP, FLIR, KAIST, M3FD and MSRS;
    - one folder in which a word in the file name says the modality, such as ``1_co.png`` and ``1_ir.png``;
    - images with RGB in the left half and TIR in the right, if the left halves have color and the right ones are gray.

    Args:
        root: the folder.
        rgb: folder of the RGB images, with ``tir`` in place of ``root``.
        tir: folder of the TIR images.
        side_by_side: take all images as RGB left, TIR right, whatever they look like.
        on_broken: stop: a file without a partner is an error. skip: it is left out and listed in ``problems``.
        memory: bytes of decoded images that are kept.
        warn: takes warnings: how the folder is read where its names don't say it, and images that are resized.

    Raises:
        DataError: the folder is missing or holds no pair, or it can't be known which folders belong together.
    """
    if rgb is not None or tir is not None:
        found = _open_two(root, rgb, tir, side_by_side=side_by_side)
    elif root is None:
        raise DataError("pairs: expected a folder of pairs, or a folder of RGB and one of TIR images; none is given")
    elif side_by_side:
        found = _Found(Path(root), [scan(Path(root))])
        found.add_side_by_side(found.scanned[0].files(), check=False)
    else:
        found = _search(Path(root), warn)
    if found.problems and on_broken == "stop":
        raise DataError(found.problems[0])
    sources = {name: found.sources[name] for name in _in_order(found.sources, warn)}
    return Pairs(found.root, sources, found.problems, memory=memory, warn=warn, **found.about())


class _Found:
    """What a search has found so far."""

    def __init__(self, root: Path, scanned: list[Folder], title: str | None = None) -> None:
        self.root, self.scanned, self.title = root, scanned, title
        self.sources: dict[str, Source] = {}
        self.problems = [line for folder in scanned for each in folder.walk() for line in each.unreadable]
        self.ambiguous: list[str] = []
        self.used: set[Folder] = set()
        self.mixed: dict[Folder, int] = {}
        self.splits: list[Path] = []

    def add(self, pairs: Iterable[tuple[tuple[str, ...], Pair[ImageFile]]]) -> None:
        """Add pairs of files, each with the name of the folder in which they count as one folder."""
        pairs = list(pairs)
        short = ["/".join((*prefix, *each.rgb.folder, each.rgb.name)) for prefix, each in pairs]
        if len(set(short)) < len(short):
            short = [each.rgb.path.relative_to(self.root).as_posix() for _, each in pairs]
        self.sources |= {
            name: TwoFiles(each.rgb.path, each.tir.path) for name, (_, each) in zip(short, pairs, strict=True)
        }

    def add_problems(self, matched: Matched, folders: Pair[str]) -> None:
        """Note what has no partner, or several."""
        for side, other in ((0, 1), (1, 0)):
            there = folders[other]
            self.problems += [
                f"{printable(file.path)}: has no partner of the same name in {there}" for file in matched.alone[side]
            ]
        for group in matched.candidates:
            rgb, tir = (", ".join(printable(file.name) for file in side[:3]) for side in group)
            self.ambiguous.append(f"{printable(group.rgb[0].path)}: which belong together? RGB: {rgb}; TIR: {tir}")
        self.problems += self.ambiguous[-len(matched.candidates) :] if matched.candidates else []

    def add_side_by_side(self, files: Iterable[ImageFile], *, check: bool) -> None:
        """Add images that hold both modalities."""
        self.sources |= {"/".join((*file.folder, file.name)): SideBySide(file.path, check=check) for file in files}
        self.used.update(self.scanned)
        if not self.sources:
            raise DataError(f"{self.root}: expected images with RGB and TIR side by side, the folder has none")

    def about(self) -> dict[str, Any]:
        """Return what ``Pairs`` keeps besides the pairs."""
        passed_over: list[str] = []
        for folder in self.scanned:
            passed_over += self._passed_over(folder)
        return {
            "title": self.title,
            "passed_over": passed_over,
            "stray": [each.path / name for folder in self.scanned for each in folder.walk() for name in each.stray],
            "splits": self.splits,
        }

    def _passed_over(self, folder: Folder) -> Iterator[str]:
        """Yield a line for each folder of images that belong to no pair by their names."""
        unused = 0 if folder in self.used else self.mixed.get(folder, len(folder.images))
        if unused:
            yield f"{printable(folder.path)}: {unused:,} images"
        for child in folder.children:
            if holds_no_images(child.name):
                if child.count:
                    yield f"{printable(child.path)}: {child.count:,} images"
            elif folder not in self.used:
                yield from self._passed_over(child)


def _search(root: Path, warn: Callable[[str], object]) -> _Found:
    """Find the pairs below a folder by its names, or side by side."""
    scanned = scan(root)
    layout = find_layout(scanned)
    found = _Found(root, [scanned])
    found.problems += map(partner_missing, layout.alone)
    found.used.update(layout.alone)
    pairs: list[tuple[tuple[str, ...], Pair[ImageFile]]] = []
    for both in layout.pairs:
        if both.rgb.path.samefile(both.tir.path):
            raise DataError(f"{both.tir.path}: expected another folder than {both.rgb.path}, they are the same one")
        matched = match_files(both.rgb.files(), both.tir.files())
        rest = "_".join(rest_of(both.rgb.name))
        pairs += [((*both.rgb.parts[:-1], *([rest] if rest else [])), pair) for pair in matched.pairs]
        found.add_problems(matched, Pair(*(printable(each.path) for each in both)))
        found.used.update(both)
        found.splits.append(both.rgb.path.parent)
    for folder in [] if layout.pairs else layout.plain:
        matched = match_mixed([ImageFile(folder.parts, name, folder.path) for name in folder.images])
        if matched.pairs or matched.candidates:
            pairs += [((), pair) for pair in matched.pairs]
            found.mixed[folder] = len(folder.images) - matched.count
            found.add_problems(matched, Pair(printable(folder.path), printable(folder.path)))
    found.add(pairs)
    if layout.pairs and not pairs:
        raise _no_pair(found, layout.pairs[0])
    if found.ambiguous and not pairs:
        raise DataError(found.ambiguous[0])
    for folder in layout.guessed:
        warn(f"{printable(folder.path)}: taken for the partner of the folder beside it, which names its modality")
    if not pairs:
        _try_side_by_side(found, layout, warn)
    return found


def _try_side_by_side(found: _Found, layout: Layout, warn: Callable[[str], object]) -> None:
    """Add images that are plainly side by side, or raise DataError."""
    scanned, reason = found.scanned[0], None
    files = sorted(scanned.files(), key=lambda file: natural_order(file.name))
    if files and not layout.alone and one_modality(found.root) is None:
        reason = why_not_side_by_side([file.path for file in files])
        if reason is None:
            found.add_side_by_side(files, check=True)
            warn(f"{printable(found.root)}: RGB is taken from the left half of each image, TIR from the right half")
            return
    raise not_found(found.root, scanned, layout, reason)


def _no_pair(found: _Found, folders: Pair[Folder]) -> DataError:
    """Return the error of folders whose files have no partner."""
    if found.ambiguous:
        return DataError(found.ambiguous[0])
    rgb, tir = (["/".join((*file.folder, file.name)) for file in folder.files()] for folder in folders)
    return no_partners(rgb, tir, " and ".join(printable(folder.path) for folder in folders))


def _open_two(root: str | Path | None, rgb: str | Path | None, tir: str | Path | None, *, side_by_side: bool) -> _Found:
    """Pair all below one folder with all below another, whatever their names."""
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
    scanned = [scan(folders.rgb, skip=folders.tir), scan(folders.tir, skip=folders.rgb)]
    found = _Found(folders.rgb, scanned, " and ".join(map(printable, folders)))
    matched = match_files(scanned[0].files(), scanned[1].files())
    found.add(((), pair) for pair in matched.pairs)
    found.add_problems(matched, Pair(*map(printable, folders)))
    found.used.update(scanned)
    if not found.sources:
        raise _no_pair(found, Pair(*scanned))
    return found


def _in_order(names: Iterable[str], warn: Callable[[str], object]) -> Iterator[str]:
    """Yield names in natural order, folder by folder."""
    folders: dict[str, list[str]] = defaultdict(list)
    for name in names:
        folders[name.rpartition("/")[0]].append(name)
    for folder in sorted(folders, key=lambda each: [natural_order(part) for part in each.split("/")]):
        yield from sort_naturally(folders[folder], lambda name: name.rpartition("/")[2], printable(folder), warn)
