"""Folders of VOT- or OTB-style sequences, of one modality or both; see ``FolderSequence``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import MALFORMED, Copy, Flags
from mmdistill.reference.data.benchmarks.layout import Layout, SequenceFiles, annotations_only, first_there, sub_folders
from mmdistill.reference.data.folders import ANNOTATIONS, ATTRIBUTES, find_annotation, is_sequence
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import read_text
from mmdistill.reference.json_files import parse_json


def vot(modality: Literal["rgb", "tir"] = "rgb") -> Layout:
    """Return the layout: ``<name>/groundtruth.txt`` (or ``groundtruth_rect.txt``) beside frames, or ``<name>.txt``.

    Args:
        modality: what the images of single-modality sequences are.
    """

    def find(folder: Path) -> list[SequenceFiles]:
        if find_annotation(folder) is not None:
            return [_one(folder, modality)]
        folders = [_one(each, modality) for each in sub_folders(folder) if is_sequence(each)]
        names = {each.name for each in folders}
        return folders + [each for each in annotations_only(folder) if each.name not in names]

    return Layout(
        "vot",
        count=None,
        find=(find,),
        attributes=_attributes,
        expects=f"<sequence>/{ANNOTATIONS[0]}, or <sequence>.txt",
    )


def _attributes(copy: Copy) -> Flags:
    """Return what ``attributes.json`` in the sequences' folders says: an attribute counts if any frame has it."""
    flags: Flags = {}
    for name in copy.sequences:
        folder = copy.place if find_annotation(copy.place) is not None else copy.place / name
        if (path := folder / ATTRIBUTES).is_file():
            try:
                content = parse_json(read_text(path), where=path)
                flags[name] = {attribute: any(frames) for attribute, frames in content.items()}
            except DataError as error:
                copy.oddities.add(MALFORMED, str(error))
            except TypeError as error:
                copy.oddities.add(MALFORMED, f"{path}: {error}")
    return flags


def _one(folder: Path, modality: Literal["rgb", "tir"]) -> SequenceFiles:
    annotation = find_annotation(folder) or folder / ANNOTATIONS[0]
    try:
        both = modality_folders(folder)
    except DataError:  # one of two is missing, which opening the sequence will say
        both = None
    single = first_there(folder, ("img", "."))
    images: Pair[Path | None] = Pair(single, None) if modality == "rgb" else Pair(None, single)
    return SequenceFiles(folder.resolve().name, (annotation,), Pair(*both) if both else images)
