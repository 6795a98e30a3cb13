"""Tracks in VOC XML files, one file per frame: the layout of LSOTB-TIR's training part."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.layout import SequenceFiles, sub_folders
from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.folders import is_stray
from mmdistill.reference.data.image_files import list_images
from mmdistill.reference.data.natural_order import natural_order
from mmdistill.reference.data.sequence import Boxes
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import read_text

ANNOTATIONS = "annotations"
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
    roots = [each for each in sub_folders(folder) if each.name.casefold() == ANNOTATIONS]
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
