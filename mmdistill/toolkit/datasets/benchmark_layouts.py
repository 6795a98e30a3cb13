"""Layouts of the supported benchmarks, LasHeR apart (see ``lasher``): which files a sequence has, and where.

LSOTB-TIR's training part has an annotation in VOC XML for each frame; it is read here, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array, from_corners
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.attributes import (
    MALFORMED,
    BenchmarkFolder,
    Flags,
    attribute_file_reader,
    sequence_file_reader,
    table_reader,
)
from mmdistill.toolkit.datasets.folder_sequence import (
    ANNOTATIONS,
    ATTRIBUTES,
    find_annotation,
    is_sequence,
    modality_folders,
)
from mmdistill.toolkit.datasets.sequence_search import (
    Layout,
    SequenceFiles,
    find_annotated_folders,
    find_annotations,
    first_existing,
    modality_folder_finder,
    sub_folders,
    tir_folder_finder,
)
from mmdistill.toolkit.image_files import is_ignored, list_images, natural_sort_key
from mmdistill.toolkit.io import parse_json, read_text
from mmdistill.toolkit.sequence import Boxes

GTOT_ATTRIBUTES = ("OCC", "LSV", "FM", "LI", "TC", "SO", "DEF")
"""In the order of the publication; a table with other columns must name them in its first row."""

GTOT = Layout(
    "gtot",
    count=50,
    finders=(
        modality_folder_finder(
            annotations=("groundTruth_v.txt", "groundTruth_i.txt"),
            images=Pair(("v",), ("i",)),
            init="init.txt",
            corners=True,
        ),
    ),
    expects="<sequence>/groundTruth_v.txt and groundTruth_i.txt",
    attributes=table_reader("sequencesAttr.txt", GTOT_ATTRIBUTES, order="SequencesName.txt"),
    name_list="SequencesName.txt",
)
"""GTOT: 50 RGB-T sequences, ground truth per modality.

Files: ``<name>/{v,i}/``, ``groundTruth_{v,i}.txt`` as x1 y1 x2 y2, ``init.txt`` as x y w h; ``sequencesAttr.txt``.

Li et al., "Learning Collaborative Sparse Representation for Grayscale-Thermal Tracking", TIP 2016,
https://doi.org/10.1109/TIP.2016.2614135
"""


def _rgbt_layout(benchmark: str, count: int, shared: tuple[str, ...] = ()) -> Layout:
    return Layout(
        benchmark,
        count,
        finders=(
            modality_folder_finder(
                annotations=("visible.txt", "infrared.txt"),
                images=Pair(("visible",), ("infrared",)),
                init="init.txt",
                shared=shared,
            ),
        ),
        expects="<sequence>/visible.txt and infrared.txt",
        attributes=attribute_file_reader("attr_txt", order="SequencesName.txt"),
        name_list="SequencesName.txt",
    )


RGBT234 = _rgbt_layout("rgbt234", 234)
"""RGBT234: 234 RGB-T sequences, ground truth per modality.

Files: ``<name>/{visible,infrared}/``, ``{visible,infrared,init}.txt``; ``attr_txt/<attribute>.txt``.

Li et al., "RGB-T Object Tracking: Benchmark and Baseline", Pattern Recognition 2019, https://arxiv.org/abs/1805.08982
"""

RGBT210 = _rgbt_layout("rgbt210", 210, shared=("init.txt",))
"""RGBT210: 210 RGB-T sequences, the predecessor of RGBT234.

Files: as RGBT234, or one ground truth for both modalities in ``init.txt``, a box per frame.

Li et al., "Weighted Sparse Representation Regularized Graph Learning for RGB-T Object Tracking", ACM MM 2017,
https://doi.org/10.1145/3123266.3123289
"""

VTUAV = Layout(
    "vtuav",
    count=None,
    finders=(
        modality_folder_finder(
            annotations=("rgb.txt", "ir.txt"),
            images=Pair(("rgb",), ("ir", "ir_gray")),
            init="init.txt",
            every=10,
        ),
    ),
    expects="<sequence>/rgb.txt and ir.txt",
)
"""VTUAV: RGB-T video of drones, ground truth per modality for every tenth frame. Not compared with its own toolkit.

Files: ``<name>/{rgb,ir}/`` (or ``ir_gray/``), ``{rgb,ir}.txt``.

Zhang et al., "Visible-Thermal UAV Tracking: A Large-Scale Benchmark and New Baseline", CVPR 2022,
https://arxiv.org/abs/2204.04120
"""

VOC_ANNOTATIONS = "annotations"
"""Name of the folder of XML files, in lower case."""

MAX_XML_CHARACTERS = 1_000_000
"""Largest XML file; real files have some hundred characters."""

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find_voc_tracks(folder: Path) -> list[SequenceFiles]:
    """Return the TIR sequences of ``<set>/<name>/*.jpg`` and ``Annotations/<set>/<name>/*.xml``, one per track.

    The sets are beside the folder ``Annotations`` or in a folder there. A frame and its XML file have the same name; a
    frame without the file or the track has no label. A folder with several tracks becomes a sequence
    ``<name>_<trackid>`` for each. Names that occur in several sets become ``<set>_<name>``.
    """
    roots = [each for each in sub_folders(folder) if each.name.casefold() == VOC_ANNOTATIONS]
    xml_folders = [each for root in roots for each in _find_xml_folders(root)]
    names = [each.name for each in xml_folders]
    sequences: list[SequenceFiles] = []
    for root in roots:
        parents = [folder, *(each for each in sub_folders(folder) if each != root)]
        for xml_folder in (each for each in xml_folders if root in each.parents):
            path = xml_folder.relative_to(root)
            name = xml_folder.name if names.count(xml_folder.name) == 1 else "_".join(path.parts)
            images = next((each / path for each in parents if (each / path).is_dir()), folder / path)
            sequences += _track_sequences(name, xml_folder, images)
    return sequences


def _find_xml_folders(root: Path, depth: int = 3) -> list[Path]:
    """Return the folders below ``root`` with XML files, in natural order."""
    if depth == 0:
        return []
    return [
        found
        for folder in sub_folders(root)
        for found in ([folder] if any(folder.glob("*.xml")) else _find_xml_folders(folder, depth - 1))
    ]


def _track_sequences(name: str, xml_folder: Path, images: Path) -> list[SequenceFiles]:
    try:
        tracks = read_tracks(xml_folder, [path.stem for path in list_images(images)])
    except DataError as error:
        return [SequenceFiles(name, (xml_folder,), Pair(None, images), labels=error)]
    return [
        SequenceFiles(name if len(tracks) == 1 else f"{name}_{track}", (xml_folder,), Pair(None, images), labels=labels)
        for track, labels in tracks.items()
    ]


def read_tracks(folder: Path, frames: Sequence[str]) -> dict[str, Boxes]:
    """Return the boxes ``(T, 4)`` of each track in a folder of VOC XML files; NaN in frames without the track.

    Args:
        folder: has ``<frame>.xml``.
        frames: names of the frames in order, without suffix.

    Raises:
        DataError: a malformed file, no file for any frame, or several objects without a ``trackid``.
    """
    index = {frame: number for number, frame in enumerate(frames)}
    tracks: dict[str, Boxes] = {}
    has_match = False
    for path in sorted(folder.glob("*.xml")):
        if is_ignored(path):
            continue
        boxes = read_objects(path)
        if path.stem not in index:
            continue
        has_match = True
        for track, box in boxes.items():
            tracks.setdefault(track, np.full((len(frames), 4), np.nan))[index[path.stem]] = box
    if not has_match:
        raise DataError(f"{folder}: expected <frame>.xml for the frames {frames[0]} ... {frames[-1]}, there is none")
    if not tracks:
        raise DataError(f"{folder}: expected objects with a box in its XML files, there is none")
    return {track: tracks[track] for track in sorted(tracks, key=natural_sort_key)}


def read_objects(path: Path) -> dict[str, Array]:
    """Return the box ``(4,)``, ``x y w h``, of each ``trackid`` in a VOC XML file.

    Raises:
        DataError: malformed XML, a document type declaration (its entities can grow without bound), a malformed box, or
            objects without a ``trackid`` of their own.
    """
    text = read_text(path)
    if len(text) > MAX_XML_CHARACTERS:
        raise DataError(f"{path}: expected the XML file of a frame, got {len(text):,} characters")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: expected plain XML, got a document type declaration, which is not read")
    try:
        objects = ElementTree.fromstring(text).findall("object")
    except ElementTree.ParseError as error:
        raise DataError(f"{path}: not XML: {error}") from error
    boxes: dict[str, Array] = {}
    for each in objects:
        track = (each.findtext("trackid") or "").strip() or ("0" if len(objects) == 1 else "")
        if not track or track in boxes:
            problem = f"trackid {track} twice" if track else f"none in one of {len(objects)} objects"
            raise DataError(f"{path}: expected a trackid of its own for each object, got {problem}")
        if not track.replace("-", "").replace("_", "").isalnum():
            raise DataError(f"{path}: expected a number as trackid, got {track[:60]!r}")
        boxes[track] = _read_box(each, path)
    return boxes


def _read_box(element: ElementTree.Element, path: Path) -> Array:
    texts = [element.findtext(f"bndbox/{name}") for name in _CORNERS]
    try:
        corners = np.array([float(text or "") for text in texts])
    except ValueError:
        corners = np.full(4, np.nan)
    if not np.isfinite(corners).all() or (corners[2:] < corners[:2]).any():
        got = ", ".join(f"{name} {text!r}"[:60] for name, text in zip(_CORNERS, texts, strict=True))
        raise DataError(f"{path}: expected a box with xmin <= xmax and ymin <= ymax, got {got}")
    return from_corners(corners)


_LSOTB_TIR_FINDERS = (
    tir_folder_finder(sequences="sequences", annotations="anno"),
    find_annotated_folders,
    find_annotations,
)

LSOTB_TIR = Layout(
    "lsotb-tir", count=120, finders=_LSOTB_TIR_FINDERS, attributes=sequence_file_reader("anno/att", "att")
)
"""LSOTB-TIR: 120 TIR sequences for testing.

Files: ``sequences/<name>/img/``, ``anno/<name>.txt``, ``anno/att/<name>.txt`` with 16 flags.

Liu et al., "LSOTB-TIR: A Large-Scale High-Diversity Thermal Infrared Object Tracking Benchmark", ACM MM 2020,
https://arxiv.org/abs/2008.00836
"""

LSOTB_TIR_TRAINING = Layout("lsotb-tir", count=None, finders=(find_voc_tracks, *_LSOTB_TIR_FINDERS), part="(train)")
"""LSOTB-TIR's training part.

Files: ``TIR_training_001/<name>/*.jpg``, ``Annotations/TIR_training_001/<name>/*.xml``; or as for testing.
"""

PTB_TIR = Layout(
    "ptb-tir",
    count=60,
    finders=(
        tir_folder_finder(sequences="tirsequences", annotations="tiranno"),
        find_annotated_folders,
        find_annotations,
    ),
    attributes=sequence_file_reader("tiranno/att", "att"),
)
"""PTB-TIR: 60 TIR sequences of pedestrians.

Files: ``tirsequences/<name>/img/``, ``tiranno/<name>.txt``, ``tiranno/att/<name>.txt`` with 10 flags.

Liu et al., "PTB-TIR: A Thermal Infrared Pedestrian Tracking Benchmark", TMM 2020, https://arxiv.org/abs/1801.05944
"""


def vot_layout(modality: Literal["rgb", "tir"] = "rgb") -> Layout:
    """Return the layout of VOT- or OTB-style sequences of one modality or both; see ``FolderSequence``.

    Files: ``<name>/groundtruth.txt`` (or ``groundtruth_rect.txt``) beside the frames, or ``<name>.txt`` without frames.

    Args:
        modality: modality of the images of sequences of one modality.
    """

    def find(folder: Path) -> list[SequenceFiles]:
        if find_annotation(folder) is not None:
            return [_vot_files(folder, modality)]
        folders = [_vot_files(each, modality) for each in sub_folders(folder) if is_sequence(each)]
        names = {each.name for each in folders}
        return folders + [each for each in find_annotations(folder) if each.name not in names]

    return Layout(
        "vot",
        count=None,
        finders=(find,),
        attributes=_read_vot_attributes,
        expects=f"<sequence>/{ANNOTATIONS[0]}, or <sequence>.txt",
    )


def _read_vot_attributes(benchmark: BenchmarkFolder) -> Flags:
    """Return the flags of ``attributes.json`` in the sequence folders: true if any frame has the attribute."""
    flags: Flags = {}
    for name in benchmark.sequences:
        folder = benchmark.folder if find_annotation(benchmark.folder) is not None else benchmark.folder / name
        if (path := folder / ATTRIBUTES).is_file():
            try:
                content = parse_json(read_text(path), where=path)
                flags[name] = {attribute: any(frames) for attribute, frames in content.items()}
            except DataError as error:
                benchmark.data_issues.add(MALFORMED, str(error))
            except TypeError as error:
                benchmark.data_issues.add(MALFORMED, f"{path}: {error}")
    return flags


def _vot_files(folder: Path, modality: Literal["rgb", "tir"]) -> SequenceFiles:
    annotation = find_annotation(folder) or folder / ANNOTATIONS[0]
    try:
        folders = modality_folders(folder)
    except DataError:  # one modality is missing; opening the sequence raises this error again
        folders = None
    single = first_existing(folder, ("img", "."))
    images: Pair[Path | None] = Pair(single, None) if modality == "rgb" else Pair(None, single)
    return SequenceFiles(folder.resolve().name, (annotation,), Pair(*folders) if folders else images)
