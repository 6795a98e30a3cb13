"""Which RGB file and which TIR file are a pair, by their names.

Which folder of RGB images and which of TIR images belong together, by their names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs.scanning import (
    FILLERS,
    WEAK_WORDS,
    WORDS,
    Folder,
    ImageFile,
    holds_no_images,
    is_word,
    may_be_partners,
    names_none,
    pieces,
    rest_of,
    side_of,
    weak_side_of,
    without,
)

Parts = tuple[tuple[str, ...], ...]
"""What two files must have in common to be a pair: the pieces of each folder's name and of the file's."""

Key = Callable[[ImageFile], Parts]


@dataclass
class Matched:
    """What became of the files of two sides.

    Attributes:
        pairs: an RGB and a TIR file each.
        alone: files without a partner.
        candidates: RGB and TIR files of which nobody can say which belong together.
    """

    pairs: list[Pair[ImageFile]] = field(default_factory=list)
    alone: Pair[list[ImageFile]] = field(default_factory=lambda: Pair[list[ImageFile]]([], []))
    candidates: list[Pair[list[ImageFile]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """How many files are in it."""
        files = {file for pair in self.pairs for file in pair}.union(*self.alone)
        return len(files.union(*(side for group in self.candidates for side in group)))


def match_files(rgb: Iterable[ImageFile], tir: Iterable[ImageFile]) -> Matched:
    """Pair the files below an RGB folder with those below a TIR folder.

    By the same path and name but for suffix and letter case. What is left: by what remains without the words of the
    own modality (``1_rgb`` and ``1_ir``, ``v0001`` and ``i0001``), numbers by value. What is left then: without words
    that all names of one side have, if the other side has no such words (``1`` and ``1_aligned``).
    """
    matched = Matched()
    left = Pair(list(rgb), list(tir))
    left = _match(left, Pair(_same_name, _same_name), matched)
    if left.rgb and left.tir:
        plain = Pair(_without_modality("rgb"), _without_modality("tir"))
        left = _match(left, plain, matched)
        extra = Pair(*(_common_words(files, key) for files, key in zip(left, plain, strict=True)))
        only = Pair(extra.rgb - extra.tir, extra.tir - extra.rgb)
        if left.rgb and left.tir and bool(only.rgb) != bool(only.tir):
            keys = (_without_words(key, words) for key, words in zip(plain, only, strict=True))
            left = _match(left, Pair(*keys), matched)
    matched.alone = left
    return matched


def match_mixed(files: Sequence[ImageFile]) -> Matched:
    """Pair the files of one folder in which a word in the name says the modality: ``1_co`` and ``1_ir``.

    A pair's names are the same but for that word. Where no two are, a file without such a word is the partner of the
    one that is named as it is, but for the word: ``1`` and ``1_thermal``.
    """
    matched = Matched()
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(lambda: Pair([], []))
    named = Pair[list[ImageFile]]([], [])
    plain = []
    for file in files:
        parts = pieces(file.stem)
        sides = [not words.isdisjoint(parts) for words in WORDS]
        if sides[0] != sides[1]:
            named[sides[1]].append(file)
        elif not sides[0]:
            plain.append(file)
        for number, piece in enumerate(parts):
            for side, words in enumerate(WORDS if any(sides) else WEAK_WORDS):
                if piece in words and (any(sides) or number in (0, len(parts) - 1)):
                    groups[file.folder, parts[:number], parts[number + 1 :]][side].append(file)
    for group in groups.values():
        _settle(group, matched)
    if not matched.pairs and not matched.candidates:
        _match_plain(plain, named, matched)
    uses = Counter(file for pair in matched.pairs for file in pair)
    matched.candidates += [
        Pair([pair.rgb], [pair.tir]) for pair in matched.pairs if max(uses[file] for file in pair) > 1
    ]
    matched.pairs = [pair for pair in matched.pairs if max(uses[file] for file in pair) == 1]
    used = set(uses)
    used |= {file for group in matched.candidates for side in group for file in side}
    matched.alone = Pair(*([file for file in side if file not in used] for side in named))
    return matched


def _match_plain(plain: Sequence[ImageFile], named: Pair[list[ImageFile]], matched: Matched) -> None:
    """Pair files that name a modality with files that name none."""
    if bool(named.rgb) == bool(named.tir):
        return
    side = int(bool(named.tir))
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(lambda: Pair([], []))
    for file in named[side]:
        groups[file.folder, _without_fillers(without(pieces(file.stem), WORDS[side]))][side].append(file)
    for file in plain:
        groups[file.folder, _without_fillers(pieces(file.stem))][1 - side].append(file)
    for group in groups.values():
        _settle(group, matched)


def _match(left: Pair[list[ImageFile]], keys: Pair[Key], matched: Matched) -> Pair[list[ImageFile]]:
    """Pair files whose keys are the same, and return those that are left."""
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(lambda: Pair([], []))
    for side, (files, key) in enumerate(zip(left, keys, strict=True)):
        for file in files:
            groups[key(file)][side].append(file)
    rest = Pair[list[ImageFile]]([], [])
    for group in groups.values():
        if not _settle(group, matched):
            rest.rgb.extend(group.rgb)
            rest.tir.extend(group.tir)
    return rest


def _settle(group: Pair[list[ImageFile]], matched: Matched) -> bool:
    """Note the pairs among files that belong together; False where one side has none."""
    rgb, tir = group
    if not rgb or not tir:
        return False
    if len(rgb) == len(tir) == 1:
        matched.pairs.append(Pair(rgb[0], tir[0]))
        return True
    same = {(file.folder, file.name): file for file in tir}
    if len(rgb) == len(tir) and all((file.folder, file.name) in same for file in rgb):
        matched.pairs += [Pair(file, same[file.folder, file.name]) for file in rgb]
    else:
        matched.candidates.append(group)
    return True


def _same_name(file: ImageFile) -> Parts:
    return tuple(part.casefold() for part in file.folder), (file.stem.casefold(),)


def _without_modality(side: str) -> Key:
    words, weak = getattr(WORDS, side), getattr(WEAK_WORDS, side)

    def key(file: ImageFile) -> Parts:
        parts = without(pieces(file.stem), words, weak)
        by_value = tuple(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts)
        folders = (without(pieces(folder), words | FILLERS) for folder in file.folder)
        return *filter(None, folders), by_value

    return key


def _without_fillers(parts: tuple[str, ...]) -> tuple[str, ...]:
    return without(parts, FILLERS)


def _without_words(key: Key, words: frozenset[str]) -> Key:
    def shorter(file: ImageFile) -> Parts:
        *folders, stem = key(file)
        return *folders, without(stem, words)

    return shorter


def _common_words(files: Sequence[ImageFile], key: Key) -> frozenset[str]:
    """Return the words that all names have; numbers, and words of the other modality, are none."""
    common: frozenset[str] | None = None
    for file in files:
        words = frozenset(part for part in key(file)[-1] if is_word(part) and not part[0].isdecimal())
        common = words if common is None else common & words
    return (common or frozenset()) - WORDS.rgb - WORDS.tir


@dataclass
class Layout:
    """How the pairs lie in a folder.

    Attributes:
        pairs: folders of RGB and of TIR images that belong together.
        alone: folders of one modality without a partner.
        guessed: the partners that were taken though their own names don't say a modality.
        plain: folders whose names say no modality and that hold images.
    """

    pairs: list[Pair[Folder]] = field(default_factory=list)
    alone: list[Folder] = field(default_factory=list)
    guessed: list[Folder] = field(default_factory=list)
    plain: list[Folder] = field(default_factory=list)


def find_layout(folder: Folder) -> Layout:
    """Return how pairs lie in a folder: modality folders in it, or further down.

    A folder is split into modalities where one sub-folder is named for RGB and one for TIR. All below those is paired
    by path, so that a split into train and test may lie above them or below.

    Raises:
        DataError: several folders may be the partner of one.
    """
    layout = Layout()
    children = [child for child in folder.children if child.count and not holds_no_images(child.name)]
    sides = Pair[list[Folder]]([], [])
    for child in children:
        if (side := side_of(child.name)) is not None:
            getattr(sides, side).append(child)
    sides = _with_short_forms(children, sides)
    if sides.rgb and sides.tir:
        _match_folders(folder, sides, layout)
        children = [child for child in children if child not in (*sides.rgb, *sides.tir)]
    below = {child: find_layout(child) for child in children}
    for child in [*sides.rgb, *sides.tir]:
        # A name such as "thermal_data" may stand above both modalities.
        if child in below and not below[child].pairs:
            del below[child]
            _match_plain_folder(child, below, layout)
    for each in below.values():
        layout.pairs += each.pairs
        layout.alone += each.alone
        layout.guessed += each.guessed
        layout.plain += each.plain
    if folder.images:
        layout.plain.append(folder)
    return layout


def _with_short_forms(children: Iterable[Folder], sides: Pair[list[Folder]]) -> Pair[list[Folder]]:
    """Return the sub-folders of each side; one that has none is given those of a short name, such as ``T``."""
    if sides.rgb and sides.tir:
        return sides
    weak = Pair[list[Folder]]([], [])
    for child in children:
        if (side := weak_side_of(child.name)) is not None:
            getattr(weak, side).append(child)
    filled = Pair(sides.rgb or weak.rgb, sides.tir or weak.tir)
    return filled if filled.rgb and filled.tir else sides


def _match_folders(folder: Folder, sides: Pair[list[Folder]], layout: Layout) -> None:
    """Pair sub-folders by what their names say besides the modality."""
    groups: dict[tuple[str, ...], Pair[list[Folder]]] = defaultdict(lambda: Pair([], []))
    for number, side in enumerate(sides):
        for child in side:
            groups[rest_of(child.name)][number].append(child)
    left = Pair[list[Folder]]([], [])
    for group in groups.values():
        if group.rgb and group.tir:
            _pair(folder, group, layout)
        else:
            left.rgb.extend(group.rgb)
            left.tir.extend(group.tir)
    alike = [Pair(rgb, tir) for rgb in left.rgb for tir in left.tir if may_be_partners(rgb.name, tir.name)]
    if alike:
        rgb = [each for each in left.rgb if any(each is pair.rgb for pair in alike)]
        tir = [each for each in left.tir if any(each is pair.tir for pair in alike)]
        _pair(folder, Pair(rgb, tir), layout)
        left = Pair([each for each in left.rgb if each not in rgb], [each for each in left.tir if each not in tir])
    layout.alone += [*left.rgb, *left.tir]


def _pair(folder: Folder, group: Pair[list[Folder]], layout: Layout) -> None:
    if len(group.rgb) == len(group.tir) == 1:
        layout.pairs.append(Pair(group.rgb[0], group.tir[0]))
        return
    rgb, tir = (_listed(side) for side in group)
    first = " --tir ".join(f"'{side[0].path}'" for side in group)
    raise DataError(f"{folder.path}: which belong together? RGB: {rgb}; TIR: {tir}. Choose, such as --rgb {first}")


def _match_plain_folder(named: Folder, below: dict[Folder, Layout], layout: Layout) -> None:
    """Take a folder of the same name, but for the modality, as the partner: ``img`` and ``img_ir``."""
    partners = [child for child in below if names_none(child.name) and rest_of(child.name) == rest_of(named.name)]
    if len(partners) != 1:
        layout.alone.append(named)
        return
    partner = partners[0]
    del below[partner]
    layout.pairs.append(Pair(partner, named) if side_of(named.name) == "tir" else Pair(named, partner))
    layout.guessed.append(partner)


def _listed(folders: Sequence[Folder], most: int = 4) -> str:
    shown = ", ".join(f"{folder.name} ({folder.count:,})" for folder in folders[:most])
    return shown + (f" and {len(folders) - most} more" if len(folders) > most else "")
