"""The layout of LasHeR: 979 sequences for training and 245 for testing, one ground truth for both modalities.

Li et al., "LasHeR: A Large-scale High-diversity Benchmark for RGBT Tracking", TIP 2022,
https://arxiv.org/abs/2104.13202
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files as package_files
from pathlib import Path

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import find_nearby, sequence_file_reader
from mmdistill.toolkit.datasets.coverage import Coverage, Split, match_names
from mmdistill.toolkit.datasets.sequence_search import (
    FoundSequences,
    Layout,
    SequenceFiles,
    ambiguous_folders,
    find_annotations,
    modality_folder_finder,
    search_all_levels,
    search_first_level,
)
from mmdistill.toolkit.io import read_text

COUNTS = {"test": 245, "train": 979, "all": 1224}

ATTRIBUTES = (
    *("NO", "PO", "TO", "HO", "MB", "LI", "HI", "AIV", "LR", "DEF"),
    *("BC", "SA", "CM", "TC", "FL", "OV", "FM", "SV", "ARC"),
)

ATTRIBUTES_FOLDER = "AttriSeqsTxt"

ANNOTATION_FOLDERS = ("annos", "anno", "annotations", "annotation", "groundtruth", "gt")
"""Names of the folder of ``<sequence>.txt`` in lower case; preferred to other folders of text files."""

LISTS = {"test": "testingsetList.txt", "train": "trainingsetList.txt"}
"""Name of the list of each part's sequences, which a copy may have."""

OTHER_NAMES = "sequences of another name than in the official test list"
MISPLACED = "sequences in the test part of the copy, but not in the official test list; not used"
OTHER_LIST = "names in either testingsetList.txt or the official test list only; the official list is used"
LIST_TWICE = "names that occur twice in a list"

_find_folders = modality_folder_finder(
    annotations=("visible.txt",),
    images=Pair(("visible",), ("infrared",)),
    init="init.txt",
    shared=("init.txt", "infrared.txt", "groundtruth.txt"),
)


@cache
def official_test_names() -> tuple[str, ...]:
    """Return the names of the 245 test sequences in the benchmark's ``testingsetList.txt``."""
    return tuple(package_files(__package__).joinpath("lasher_test_names.txt").read_text("utf-8").split())


def lasher_layout(split: Split = "test") -> Layout:
    """Return the layout of one split.

    Files: ``<name>/{visible,infrared}/``, ``visible.txt``, ``init.txt``; ``AttriSeqsTxt/``. Annotations without images
    may be ``<name>.txt``.

    A sequence is in the test split if the official list has its name, wherever its files are. A copy without official
    names is split by its folders (``testingset``, ``trainingset``) and lists (``testingsetList.txt``).
    """
    return Layout(
        "lasher",
        COUNTS[split],
        attributes=sequence_file_reader(ATTRIBUTES_FOLDER, default_names=ATTRIBUTES),
        expects="<sequence>/visible.txt, or <sequence>.txt",
        part="" if split == "all" else f"({split})",
        search=_search,
        select=partial(_select, split=split),
    )


def _search(root: Path, images: bool) -> FoundSequences | None:
    """Return all sequences of both parts, and the folder that contains them."""
    found = search_all_levels(_find_folders, root)
    if not found:
        return _search_annotations(root)
    files = {each.name: each for each in _remove_duplicates([each for _, here in found for each in here], root)}
    if not images or any(not each.annotations[0].is_file() for each in files.values()):
        for each in _annotations_beside(root, frozenset(each.annotations[0].parent for each in files.values())):
            if each.name not in files:
                if not images:
                    files[each.name] = each
            elif not files[each.name].annotations[0].is_file():
                files[each.name] = replace(files[each.name], annotations=each.annotations)
    folder = Path(os.path.commonpath([each for each, _ in found])) if len(found) > 1 else found[0][0]
    return folder, list(files.values())


def _search_annotations(root: Path) -> FoundSequences | None:
    """Return the sequences of a folder of ``<name>.txt``, or of a folder of each part.

    Raises:
        DataError: several other folders have annotations.
    """
    found = search_first_level(_find_annotations, root)
    annotation_folders = [each for each in found if each[0].name.casefold() in ANNOTATION_FOLDERS]
    if len(found) > 1 and len(annotation_folders) == 1:
        found = annotation_folders
    if len(found) > 1 and all(_part_of_folder(folder) for folder, _ in found):
        files = _remove_duplicates([each for _, here in found for each in here], root)
        return Path(os.path.commonpath([folder for folder, _ in found])), files
    if len(found) > 1:
        raise ambiguous_folders(root, "lasher", [folder for folder, _ in found])
    return found[0] if found else None


def _annotations_beside(root: Path, sequence_folders: frozenset[Path]) -> list[SequenceFiles]:
    """Return the annotations in a folder such as ``annos`` beside the sequence folders."""

    def find(folder: Path) -> list[SequenceFiles]:
        return _find_annotations(folder) if folder.name.casefold() in ANNOTATION_FOLDERS else []

    found = search_first_level(find, root, skip=sequence_folders)
    return found[0][1] if len(found) == 1 else []


def _find_annotations(folder: Path) -> list[SequenceFiles]:
    return [] if folder.name.casefold() == ATTRIBUTES_FOLDER.casefold() else find_annotations(folder)


def _remove_duplicates(files: Sequence[SequenceFiles], root: Path) -> list[SequenceFiles]:
    """Return one sequence per name; of two the one with images and ground truth.

    Raises:
        DataError: two sequences of one name have the same files.
    """
    unique: dict[str, SequenceFiles] = {}
    for each in files:
        other = unique.get(each.name)
        if other is not None and _completeness(other) == _completeness(each):
            folders = " and ".join(str(path.annotations[0].parent.relative_to(root)) for path in (other, each))
            raise DataError(f"{root}: sequence {each.name} is there twice, in {folders}; name the folder of one")
        if other is None or _completeness(each) > _completeness(other):
            unique[each.name] = each
    return list(unique.values())


def _completeness(files: SequenceFiles) -> int:
    images = sum(folder is not None and folder.is_dir() for folder in files.images)
    return 2 * images + files.annotations[0].is_file()


def _select(
    found: FoundSequences, root: Path, data_issues: DataIssues, *, split: Split
) -> tuple[list[SequenceFiles], Coverage]:
    """Return the sequences of one split and their coverage."""
    folder, files = found
    official_names = match_names(official_test_names(), (each.name for each in files))
    for name, official_name in official_names.items():
        if name != official_name:
            data_issues.add(OTHER_NAMES, f"{name} is {official_name}")
    lists = {part: _read_list(folder, root, name, data_issues) for part, name in LISTS.items()}
    test_of_copy = {each.name for each in files if _part_of_copy(each, lists) == "test"}
    test_names = set(official_names) or test_of_copy
    for name in sorted(test_of_copy - test_names):
        data_issues.add(MISPLACED, name)
    if lists["test"] is not None and official_names:
        for name in sorted(set(lists["test"]) ^ set(official_test_names())):
            data_issues.add(OTHER_LIST, name)
    if split == "all":
        selected = files
    elif split == "test":
        selected = [each for each in files if each.name in test_names]
    else:
        selected = [each for each in files if each.name not in test_names | test_of_copy]
    used = {each.name for each in selected}
    known_names = tuple(lists["train"] or ()) if split == "train" else official_test_names()
    present = set(official_names.values()) | {each.name for each in files}
    coverage = Coverage(
        "lasher",
        len(selected),
        split,
        COUNTS[split],
        missing=tuple(name for name in dict.fromkeys(known_names) if name not in present),
        unofficial=split == "test" and not official_names,
        outside_split=tuple(each.name for each in files if each.name not in used),
    )
    return selected, coverage


def _part_of_copy(files: SequenceFiles, lists: dict[str, list[str] | None]) -> str | None:
    """Return the part of a sequence by the lists of the copy, or by the folders that contain it."""
    for listed, names in lists.items():
        if names is not None and files.name in names:
            return listed
    parents = list(files.annotations[0].absolute().parents)
    first = parents[0].name == files.name  # skips the sequence folder itself
    return next((part for folder in parents[first : first + 2] if (part := _part_of_folder(folder))), None)


def _part_of_folder(folder: Path) -> str | None:
    """Return the part that the name of a folder begins with: ``testing...`` or ``training...``."""
    name = folder.absolute().name.casefold()
    return next((part for part in LISTS if name.startswith(f"{part}ing")), None)


def _read_list(folder: Path, root: Path, name: str, data_issues: DataIssues) -> list[str] | None:
    """Return the names in a list of the copy, one per line; None if it has no such list."""
    path = find_nearby(folder, root, name)
    if path is None:
        return None
    names = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    for duplicate in sorted({each for each in names if names.count(each) > 1}):
        data_issues.add(LIST_TWICE, f"{path}: {duplicate}")
    return names
