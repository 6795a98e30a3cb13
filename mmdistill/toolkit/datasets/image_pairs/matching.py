"""Matches RGB with TIR files, and RGB with TIR folders, by their names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs.folder_tree import (
    ABBREVIATIONS,
    FILLER_WORDS,
    MODALITY_WORDS,
    Folder,
    ImageFile,
    distinguishing_words,
    has_no_modality,
    is_label_folder,
    is_separator,
    may_correspond,
    modality_of,
    modality_of_abbreviation,
    remove_words,
    tokenize,
)

T = TypeVar("T")

Tokens = tuple[str, ...]

Key = Callable[[ImageFile], tuple[Tokens, ...]]
"""Returns the tokens of the folders and of the file; files of equal keys are a pair."""

MAX_EXAMPLES = 4


def _empty_lists() -> Pair[list[T]]:
    return Pair([], [])


@dataclass
class MatchedFiles:
    """The result of matching files.

    Attributes:
        pairs: an RGB and a TIR file each.
        unmatched: files without a counterpart.
        ambiguous: groups of RGB and TIR files with several possible pairs.
    """

    pairs: list[Pair[ImageFile]] = field(default_factory=list)
    unmatched: Pair[list[ImageFile]] = field(default_factory=lambda: Pair[list[ImageFile]]([], []))
    ambiguous: list[Pair[list[ImageFile]]] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Number of files in the result."""
        files = {file for pair in self.pairs for file in pair}.union(*self.unmatched)
        return len(files.union(*(side for group in self.ambiguous for side in group)))


def match_files(rgb: Iterable[ImageFile], tir: Iterable[ImageFile]) -> MatchedFiles:
    """Match the files below an RGB folder with those below a TIR folder.

    First by equal path and name, without suffix and letter case. Then without the words of the own modality (``1_rgb``
    and ``1_ir``, ``v0001`` and ``i0001``), numbers by value. Then without words that all names of one side have, if the
    other side has no such words (``1`` and ``1_aligned``).
    """
    matched = MatchedFiles()
    remaining = Pair(list(rgb), list(tir))
    remaining = _match_by_key(remaining, Pair(_name_key, _name_key), matched)
    if remaining.rgb and remaining.tir:
        keys = Pair(_key_without_modality("rgb"), _key_without_modality("tir"))
        remaining = _match_by_key(remaining, keys, matched)
        common = Pair(*(_common_words(files, key) for files, key in zip(remaining, keys, strict=True)))
        one_sided = Pair(common.rgb - common.tir, common.tir - common.rgb)
        if remaining.rgb and remaining.tir and bool(one_sided.rgb) != bool(one_sided.tir):
            shorter = (_key_without_words(key, words) for key, words in zip(keys, one_sided, strict=True))
            remaining = _match_by_key(remaining, Pair(*shorter), matched)
    matched.unmatched = remaining
    return matched


def match_mixed_files(files: Sequence[ImageFile]) -> MatchedFiles:
    """Match the files of one folder whose names give the modality: ``1_co`` and ``1_ir``.

    The names of a pair differ in the word of the modality only. If there is no such pair, a file without a modality is
    the counterpart of the file with the same name plus that word: ``1`` and ``1_thermal``.
    """
    matched = MatchedFiles()
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(_empty_lists)
    named: Pair[list[ImageFile]] = _empty_lists()
    unnamed = []
    for file in files:
        tokens = tokenize(file.stem)
        has_word = [not words.isdisjoint(tokens) for words in MODALITY_WORDS]
        if has_word[0] != has_word[1]:
            named[has_word[1]].append(file)
        elif not has_word[0]:
            unnamed.append(file)
        for index, token in enumerate(tokens):
            for side, words in enumerate(MODALITY_WORDS if any(has_word) else ABBREVIATIONS):
                if token in words and (any(has_word) or index in (0, len(tokens) - 1)):
                    groups[file.folders, tokens[:index], tokens[index + 1 :]][side].append(file)
    for group in groups.values():
        _match_group(group, matched)
    if not matched.pairs and not matched.ambiguous:
        _match_unnamed(unnamed, named, matched)
    uses = Counter(file for pair in matched.pairs for file in pair)
    repeated = [pair for pair in matched.pairs if max(uses[file] for file in pair) > 1]
    matched.ambiguous += [Pair([pair.rgb], [pair.tir]) for pair in repeated]
    matched.pairs = [pair for pair in matched.pairs if max(uses[file] for file in pair) == 1]
    used = set(uses)
    used |= {file for group in matched.ambiguous for side in group for file in side}
    matched.unmatched = Pair(*([file for file in side if file not in used] for side in named))
    return matched


def _match_unnamed(unnamed: Sequence[ImageFile], named: Pair[list[ImageFile]], matched: MatchedFiles) -> None:
    """Match files of one named modality with files without a modality."""
    if bool(named.rgb) == bool(named.tir):
        return
    side = int(bool(named.tir))
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(_empty_lists)
    for file in named[side]:
        tokens = remove_words(tokenize(file.stem), MODALITY_WORDS[side])
        groups[file.folders, remove_words(tokens, FILLER_WORDS)][side].append(file)
    for file in unnamed:
        groups[file.folders, remove_words(tokenize(file.stem), FILLER_WORDS)][1 - side].append(file)
    for group in groups.values():
        _match_group(group, matched)


def _match_by_key(files: Pair[list[ImageFile]], keys: Pair[Key], matched: MatchedFiles) -> Pair[list[ImageFile]]:
    """Match files of equal keys; return the others."""
    groups: dict[Hashable, Pair[list[ImageFile]]] = defaultdict(_empty_lists)
    for side, (side_files, key) in enumerate(zip(files, keys, strict=True)):
        for file in side_files:
            groups[key(file)][side].append(file)
    remaining: Pair[list[ImageFile]] = _empty_lists()
    for group in groups.values():
        if not _match_group(group, matched):
            remaining.rgb.extend(group.rgb)
            remaining.tir.extend(group.tir)
    return remaining


def _match_group(group: Pair[list[ImageFile]], matched: MatchedFiles) -> bool:
    """Add the pairs or the ambiguity of files with one key; return False if a modality has no file."""
    rgb, tir = group
    if not rgb or not tir:
        return False
    if len(rgb) == len(tir) == 1:
        matched.pairs.append(Pair(rgb[0], tir[0]))
        return True
    by_name = {(file.folders, file.name): file for file in tir}
    if len(rgb) == len(tir) and all((file.folders, file.name) in by_name for file in rgb):
        matched.pairs += [Pair(file, by_name[file.folders, file.name]) for file in rgb]
    else:
        matched.ambiguous.append(group)
    return True


def _name_key(file: ImageFile) -> tuple[Tokens, ...]:
    return tuple(folder.casefold() for folder in file.folders), (file.stem.casefold(),)


def _key_without_modality(modality: str) -> Key:
    words, abbreviations = getattr(MODALITY_WORDS, modality), getattr(ABBREVIATIONS, modality)

    def key(file: ImageFile) -> tuple[Tokens, ...]:
        tokens = remove_words(tokenize(file.stem), words, abbreviations)
        by_value = tuple(token.lstrip("0") or "0" if token.isdecimal() else token for token in tokens)
        folders = (remove_words(tokenize(folder), words | FILLER_WORDS) for folder in file.folders)
        return *filter(None, folders), by_value

    return key


def _key_without_words(key: Key, words: frozenset[str]) -> Key:
    def shorter(file: ImageFile) -> tuple[Tokens, ...]:
        *folders, stem = key(file)
        return *folders, remove_words(stem, words)

    return shorter


def _common_words(files: Sequence[ImageFile], key: Key) -> frozenset[str]:
    """Return the words in all names, without numbers and words of a modality."""
    common: frozenset[str] | None = None
    for file in files:
        stem = key(file)[-1]
        words = frozenset(token for token in stem if not is_separator(token) and not token[0].isdecimal())
        common = words if common is None else common & words
    return (common or frozenset()) - MODALITY_WORDS.rgb - MODALITY_WORDS.tir


@dataclass
class MatchedFolders:
    """The result of matching the folders below a folder.

    Attributes:
        pairs: an RGB and a TIR folder each.
        unmatched: folders of one modality without a counterpart.
        inferred: folders in ``pairs`` whose own names give no modality.
        unnamed: folders with images whose names give no modality.
    """

    pairs: list[Pair[Folder]] = field(default_factory=list)
    unmatched: list[Folder] = field(default_factory=list)
    inferred: list[Folder] = field(default_factory=list)
    unnamed: list[Folder] = field(default_factory=list)


def match_folders(folder: Folder) -> MatchedFolders:
    """Match the modality folders in a folder, or further down.

    RGB and TIR sub-folders of one folder are a pair. Folders for training and testing may be above or below them,
    because all files below a pair are matched by path.

    Raises:
        DataError: a folder has several possible counterparts.
    """
    matched = MatchedFolders()
    children = [child for child in folder.children if child.count and not is_label_folder(child.name)]
    sides = Pair(*([child for child in children if modality_of(child.name) == side] for side in Pair._fields))
    if not (sides.rgb and sides.tir):
        sides = _add_abbreviations(children, sides)
    if sides.rgb and sides.tir:
        _match_sides(folder, sides, matched)
        children = [child for child in children if child not in (*sides.rgb, *sides.tir)]
    below = {child: match_folders(child) for child in children}
    for child in [*sides.rgb, *sides.tir]:
        # A folder such as "thermal_data" may contain both modalities.
        if child in below and not below[child].pairs:
            del below[child]
            _match_with_unnamed_folder(child, below, matched)
    for each in below.values():
        matched.pairs += each.pairs
        matched.unmatched += each.unmatched
        matched.inferred += each.inferred
        matched.unnamed += each.unnamed
    if folder.images:
        matched.unnamed.append(folder)
    return matched


def _add_abbreviations(children: Sequence[Folder], sides: Pair[list[Folder]]) -> Pair[list[Folder]]:
    """Return the folders of each modality, those named by an abbreviation where a modality has no other."""
    abbreviated = Pair(
        *([child for child in children if modality_of_abbreviation(child.name) == side] for side in Pair._fields)
    )
    filled = Pair(sides.rgb or abbreviated.rgb, sides.tir or abbreviated.tir)
    return filled if filled.rgb and filled.tir else sides


def _match_sides(folder: Folder, sides: Pair[list[Folder]], matched: MatchedFolders) -> None:
    """Match sub-folders by the words of their names besides the modality."""
    groups: dict[Tokens, Pair[list[Folder]]] = defaultdict(_empty_lists)
    for number, side in enumerate(sides):
        for child in side:
            groups[distinguishing_words(child.name)][number].append(child)
    remaining: Pair[list[Folder]] = _empty_lists()
    for group in groups.values():
        if group.rgb and group.tir:
            _add_folder_pair(folder, group, matched)
        else:
            remaining.rgb.extend(group.rgb)
            remaining.tir.extend(group.tir)
    candidates = [
        Pair(rgb, tir) for rgb in remaining.rgb for tir in remaining.tir if may_correspond(rgb.name, tir.name)
    ]
    if candidates:
        rgb = [each for each in remaining.rgb if any(each is pair.rgb for pair in candidates)]
        tir = [each for each in remaining.tir if any(each is pair.tir for pair in candidates)]
        _add_folder_pair(folder, Pair(rgb, tir), matched)
        remaining = Pair(
            [each for each in remaining.rgb if each not in rgb], [each for each in remaining.tir if each not in tir]
        )
    matched.unmatched += [*remaining.rgb, *remaining.tir]


def _add_folder_pair(folder: Folder, group: Pair[list[Folder]], matched: MatchedFolders) -> None:
    if len(group.rgb) == len(group.tir) == 1:
        matched.pairs.append(Pair(group.rgb[0], group.tir[0]))
        return
    rgb, tir = (_list_folders(side) for side in group)
    options = " --tir ".join(f"'{side[0].path}'" for side in group)
    raise DataError(
        f"{folder.path}: expected one RGB and one TIR folder, got RGB: {rgb}; TIR: {tir}. Choose: --rgb {options}"
    )


def _match_with_unnamed_folder(named: Folder, below: dict[Folder, MatchedFolders], matched: MatchedFolders) -> None:
    """Match a folder with the folder of the same name without the modality: ``img_ir`` with ``img``."""
    words = distinguishing_words(named.name)
    candidates = [child for child in below if has_no_modality(child.name) and distinguishing_words(child.name) == words]
    if len(candidates) != 1:
        matched.unmatched.append(named)
        return
    counterpart = candidates[0]
    del below[counterpart]
    matched.pairs.append(Pair(counterpart, named) if modality_of(named.name) == "tir" else Pair(named, counterpart))
    matched.inferred.append(counterpart)


def _list_folders(folders: Sequence[Folder]) -> str:
    examples = ", ".join(f"{folder.name} ({folder.count:,})" for folder in folders[:MAX_EXAMPLES])
    return examples + (f" and {len(folders) - MAX_EXAMPLES} more" if len(folders) > MAX_EXAMPLES else "")
