"""GTOT: 50 sequences, a ground truth per modality.

Li et al., Learning Collaborative Sparse Representation for Grayscale-Thermal Tracking, TIP 2016.

RGBT234 and its predecessor RGBT210: a ground truth per modality.

Li et al., RGB-T Object Tracking: Benchmark and Baseline, Pattern Recognition 2019; Weighted Sparse Representation
Regularized Graph Learning for RGB-T Object Tracking, ACM MM 2017.

VTUAV: a ground truth per modality, a box for every tenth frame.

Zhang et al., Visible-Thermal UAV Tracking: A Large-Scale Benchmark and New Baseline, CVPR 2022. Not compared with
the benchmark's own toolkit.

LSOTB-TIR: 120 TIR sequences for testing, and a training part in VOC XML.

Liu et al., LSOTB-TIR: A Large-Scale High-Diversity Thermal Infrared Object Tracking Benchmark, ACM MM 2020.

PTB-TIR: 60 TIR sequences of pedestrians.

Liu et al., PTB-TIR: A Thermal Infrared Pedestrian Tracking Benchmark, TMM 2020.

Folders of VOT- or OTB-style sequences, of one modality or both; see ``FolderSequence``.

Tracks in VOC XML files, one file per frame: the layout of LSOTB-TIR's training part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.attributes import (
    MALFORMED,
    Copy,
    Flags,
    file_per_attribute,
    file_per_sequence,
    one_table,
)
from mmdistill.toolkit.datasets.folder_sequence import (
    ANNOTATIONS,
    ATTRIBUTES,
    find_annotation,
    is_sequence,
    is_stray,
    modality_folders,
)
from mmdistill.toolkit.datasets.layout import (
    Layout,
    SequenceFiles,
    annotated_folders,
    annotations_only,
    first_there,
    paired_folders,
    sub_folders,
    tir_folders,
)
from mmdistill.toolkit.image_files import list_images, natural_order
from mmdistill.toolkit.io import parse_json, read_text
from mmdistill.toolkit.sequence import Boxes

GTOT_ATTRIBUTES = ("OCC", "LSV", "FM", "LI", "TC", "SO", "DEF")
"""In the order in which the publication lists them; a table with other columns names them in its first row."""

GTOT = Layout(
    "gtot",
    count=50,
    find=(
        paired_folders(
            truths=("groundTruth_v.txt", "groundTruth_i.txt"),
            images=Pair(("v",), ("i",)),
            init="init.txt",
            corners=True,
        ),
    ),
    expects="<sequence>/groundTruth_v.txt and groundTruth_i.txt",
    attributes=one_table("sequencesAttr.txt", GTOT_ATTRIBUTES, order="SequencesName.txt"),
    listed="SequencesName.txt",
)
"""``<name>/{v,i}/``, ``groundTruth_{v,i}.txt`` as x1 y1 x2 y2, ``init.txt`` as x y w h; ``sequencesAttr.txt``."""


def _layout(benchmark: str, count: int, shared: tuple[str, ...] = ()) -> Layout:
    return Layout(
        benchmark,
        count,
        find=(
            paired_folders(
                truths=("visible.txt", "infrared.txt"),
                images=Pair(("visible",), ("infrared",)),
                init="init.txt",
                shared=shared,
            ),
        ),
        expects="<sequence>/visible.txt and infrared.txt",
        attributes=file_per_attribute("attr_txt", order="SequencesName.txt"),
        listed="SequencesName.txt",
    )


RGBT234 = _layout("rgbt234", 234)
"""``<name>/{visible,infrared}/``, ``{visible,infrared,init}.txt``; ``attr_txt/<attribute>.txt``."""

RGBT210 = _layout("rgbt210", 210, shared=("init.txt",))
"""As RGBT234; or one ground truth for both modalities in ``init.txt``, a box per frame."""


VTUAV = Layout(
    "vtuav",
    count=None,
    find=(
        paired_folders(
            truths=("rgb.txt", "ir.txt"),
            images=Pair(("rgb",), ("ir", "ir_gray")),
            init="init.txt",
            every=10,
        ),
    ),
    expects="<sequence>/rgb.txt and ir.txt",
)
"""``<name>/{rgb,ir}/`` (or ``ir_gray/``), ``{rgb,ir}.txt``."""


VOC_ANNOTATIONS = "annotations"
"""The folder of the XML files, in small letters."""

MAX_XML_CHARACTERS = 1_000_000
"""A frame's file has some hundred."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def voc_track_folders(folder: Path) -> list[SequenceFiles]:
    """Return the TIR sequences of ``<set>/<name>/*.jpg`` and ``Annotations/<set>/<name>/*.xml``, one per track.

    The image sets lie beside the folder ``Annotations`` or in a folder there. A frame and its file have one name; a
    frame without a file, or without the track, has no label. A folder with several tracks gives a sequence
    ``<name>_<trackid>`` for each. Names that several sets share become ``<set>_<name>``.
    """
    roots = [each for each in sub_folders(folder) if each.name.casefold() == VOC_ANNOTATIONS]
    places = [place for root in roots for place in _xml_folders(root)]
    names = [place.name for place in places]
    sequences: list[SequenceFiles] = []
    for root in roots:
        beside = [folder, *(each for each in sub_folders(folder) if each != root)]
        for place in (each for each in places if root in each.parents):
            below = place.relative_to(root)
            name = place.name if names.count(place.name) == 1 else "_".join(below.parts)
            images = next((path for each in beside if (path := each / below).is_dir()), folder / below)
            sequences += _sequences(name, place, images)
    return sequences


def _xml_folders(root: Path, depth: int = 3) -> list[Path]:
    """Return the folders below ``root`` that hold XML files, in natural order."""
    if depth == 0:
        return []
    return [
        found
        for folder in sub_folders(root)
        for found in ([folder] if any(folder.glob("*.xml")) else _xml_folders(folder, depth - 1))
    ]


def _sequences(name: str, place: Path, images: Path) -> list[SequenceFiles]:
    try:
        tracks = read_tracks(place, [path.stem for path in list_images(images)])
    except DataError as error:
        return [SequenceFiles(name, (place,), Pair(None, images), labels=error)]
    return [
        SequenceFiles(name if len(tracks) == 1 else f"{name}_{track}", (place,), Pair(None, images), labels=labels)
        for track, labels in tracks.items()
    ]


def read_tracks(folder: Path, frames: Sequence[str]) -> dict[str, Boxes]:
    """Return for each track the boxes ``(T, 4)`` of a folder of VOC XML files; NaN where a frame has none.

    Args:
        folder: holds ``<frame>.xml``.
        frames: the frames' names, without suffix, in order.

    Raises:
        DataError: a malformed file, no file for any of the frames, or several objects without a track's number.
    """
    numbers = {frame: number for number, frame in enumerate(frames)}
    tracks: dict[str, Boxes] = {}
    matched = False
    for path in sorted(folder.glob("*.xml")):
        if is_stray(path):
            continue
        boxes = read_objects(path)
        if path.stem not in numbers:
            continue
        matched = True
        for track, box in boxes.items():
            tracks.setdefault(track, np.full((len(frames), 4), np.nan))[numbers[path.stem]] = box
    if not matched:
        raise DataError(f"{folder}: expected <frame>.xml for the frames {frames[0]} ... {frames[-1]}, there is none")
    if not tracks:
        raise DataError(f"{folder}: expected objects with a box in its XML files, there is none")
    return {track: tracks[track] for track in sorted(tracks, key=natural_order)}


def read_objects(path: Path) -> dict[str, Array]:
    """Return for each object's track number its box ``(4,)``, ``x y w h``, in one VOC XML file.

    Raises:
        DataError: no XML, a document type declaration (entities in it can grow without bound), a box that is no box,
            or objects that can't be told apart.
    """
    text = read_text(path)
    if len(text) > MAX_XML_CHARACTERS:
        raise DataError(f"{path}: expected the XML file of a frame, got {len(text):,} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: expected plain XML, got a document type declaration, which is not read")
    try:
        found = ElementTree.fromstring(text).findall("object")
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML: {error}") from error
    boxes: dict[str, Array] = {}
    for each in found:
        track = (each.findtext("trackid") or "").strip() or ("0" if len(found) == 1 else "")
        if not track or track in boxes:
            problem = f"trackid {track} twice" if track else f"none in one of {len(found)} objects"
            raise DataError(f"{path}: expected a trackid of its own for each object, got {problem}")
        if not track.replace("-", "").replace("_", "").isalnum():
            raise DataError(f"{path}: expected a number as trackid, got {track[:60]!r}")
        boxes[track] = _box(each, path)
    return boxes


def _box(element: ElementTree.Element, path: Path) -> Array:
    texts = [element.findtext(f"bndbox/{name}") for name in _CORNERS]
    try:
        corners = np.array([float(text or "") for text in texts])
    except ValueError:
        corners = np.full(4, np.nan)
    if not np.isfinite(corners).all() or (corners[2:] < corners[:2]).any():
        got = ", ".join(f"{name} {text!r}"[:60] for name, text in zip(_CORNERS, texts, strict=True))
        raise DataError(f"{path}: expected a box with xmin <= xmax and ymin <= ymax, got {got}")
    return np.concatenate([corners[:2], corners[2:] - corners[:2]])


_TEST = (tir_folders(sequences="sequences", annotations="anno"), annotated_folders, annotations_only)

LSOTB_TIR = Layout("lsotb-tir", count=120, find=_TEST, attributes=file_per_sequence("anno/att", "att"))
"""``sequences/<name>/img/``, ``anno/<name>.txt``, ``anno/att/<name>.txt`` with 16 flags."""

LSOTB_TIR_TRAINING = Layout("lsotb-tir", count=None, find=(voc_track_folders, *_TEST), part="(train)")
"""``TIR_training_001/<name>/*.jpg``, ``Annotations/TIR_training_001/<name>/*.xml``; or as for testing."""


PTB_TIR = Layout(
    "ptb-tir",
    count=60,
    find=(tir_folders(sequences="tirsequences", annotations="tiranno"), annotated_folders, annotations_only),
    attributes=file_per_sequence("tiranno/att", "att"),
)
"""``tirsequences/<name>/img/``, ``tiranno/<name>.txt``, ``tiranno/att/<name>.txt`` with 10 flags."""


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
                copy.data_issues.add(MALFORMED, str(error))
            except TypeError as error:
                copy.data_issues.add(MALFORMED, f"{path}: {error}")
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
