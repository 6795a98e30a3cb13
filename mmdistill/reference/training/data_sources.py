"""What training may learn from: synthetic video, video composed from real pairs, or labeled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast, get_args

from mmdistill.reference.synthetic import PairTextures, SyntheticSettings, synthetic_sequences
from mmdistill.reference.synthetic.scenes import scene_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets import BenchmarkName, open_benchmark
from mmdistill.toolkit.datasets.folder_sequence import ANNOTATIONS, find_annotation, read_sequences
from mmdistill.toolkit.datasets.image_pairs import NoPairsError, Pairs, open_pairs
from mmdistill.toolkit.datasets.image_pairs.folder_tree import is_modality
from mmdistill.toolkit.image_files import is_ignored
from mmdistill.toolkit.sequence import TrackingSequence

COMPOSED = SyntheticSettings(size=(480, 360), target_size=(28.0, 80.0), speed=(1.0, 6.0), camera_motion=24.0)
"""Video composed from real pairs: larger than the procedural default, because the pairs are."""

MAX_TEXT_FILES = 20
"""How many text files of a folder are looked into for boxes."""


def training_sequences(
    data: str | None,
    *,
    count: int,
    seed: int,
    hold_out: int = 0,
    scenes: int = 0,
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    side_by_side: bool = False,
    data_issues: DataIssues | None = None,
) -> Sequence[TrackingSequence]:
    """Return the sequences that ``data`` names.

    Args:
        data: ``"synthetic"``; or a folder of aligned pairs, as ``open_pairs`` reads it, from which videos are composed;
            or a folder of labeled sequences; or ``NAME:FOLDER``, a benchmark's copy, such as ``lasher:LasHeR``, of
            which the training part is taken where it has one.
        count: how many videos are synthesized or composed.
        seed: of those videos.
        hold_out: how many pairs, the last by name, are left for testing.
        scenes: how many more videos are views of one pair each.
        rgb: folder of RGB images of pairs, with ``tir`` in place of ``data``.
        tir: folder of TIR images of pairs.
        side_by_side: whether each image of the folder holds both modalities.
        data_issues: where is noted what is odd about the data, and how many of a benchmark's sequences are used.

    Raises:
        DataError: the folder is missing or holds neither pairs nor sequences, or nothing is left of the pairs.
    """
    if data is not None and rgb is None and tir is None and not side_by_side:
        if data == "synthetic":
            return synthetic_sequences(count, seed=seed)
        name, _, place = data.partition(":")
        if place and name in get_args(BenchmarkName):
            opened = open_benchmark(cast(BenchmarkName, name), place, split="train", partial=True)
            if data_issues is not None:
                if not opened.coverage.complete:
                    data_issues.add(opened.coverage.summary)
                data_issues.extend(opened.data_issues)
            return opened.sequences
        folder = Path(data)
        if not folder.is_dir():
            raise DataError(
                f"{data}: expected 'synthetic', a folder of pairs or a folder of sequences; there is no such folder"
            )
        if _holds_sequences(folder):
            return read_sequences(folder, data_issues=data_issues)
    try:
        pairs = open_pairs(data, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip")
    except NoPairsError as error:
        raise DataError(f"{error}; nor sequences: no folder in it has {' or '.join(ANNOTATIONS)}") from error
    _refuse_labels(pairs)
    if data_issues is not None:
        pairs.report_skipped(data_issues)
    pairs = pairs[: -hold_out or None]
    return [*_composed(pairs, count, seed, COMPOSED), *scene_sequences(pairs, scenes, seed=seed)]


def composed_sequences(
    pairs: Pairs | str | Path, which: slice, *, count: int, seed: int, length: int = COMPOSED.length
) -> Sequence[TrackingSequence]:
    """Return videos of ``length`` frames composed from some of a folder's pairs.

    Raises:
        DataError: the folder holds no pairs, or too few are left, or one is too small.
    """
    if not isinstance(pairs, Pairs):
        pairs = open_pairs(pairs, on_broken="skip")
    return _composed(pairs[which], count, seed, replace(COMPOSED, length=length))


def _holds_sequences(folder: Path) -> bool:
    """Return whether a folder, or one in it that is no modality's, has an annotation."""
    if find_annotation(folder) is not None:
        return True
    children = (child for child in folder.iterdir() if not is_ignored(child) and not is_modality(child.name))
    return any(child.is_dir() and find_annotation(child) is not None for child in children)


def _refuse_labels(pairs: Pairs) -> None:
    """Raise DataError where boxes lie beside the images of pairs: a benchmark's labels would be lost."""
    for folder in pairs.parent_folders:
        inside = [path for path in folder.iterdir() if is_modality(path.name) and path.is_dir()]
        for place in (folder, *inside):
            for path in islice(place.glob("*.txt"), MAX_TEXT_FILES):
                if path.is_file() and _starts_with_box(path):
                    names = ", ".join(f"{name}:" for name in get_args(BenchmarkName) if name != "vot")
                    raise DataError(
                        f"{path}: boxes lie beside the images; a benchmark's copy is given by its name ({names}FOLDER)"
                    )


def _starts_with_box(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.readline(200).decode("ascii", "replace").replace(",", " ").split()
    try:
        return len([float(word) for word in first]) in (4, 8)
    except ValueError:
        return False


def _composed(pairs: Pairs, count: int, seed: int, settings: SyntheticSettings) -> Sequence[TrackingSequence]:
    if len(pairs) < 2:
        raise DataError(
            f"{pairs.title}: composing takes at least 2 pairs, one for the scene, one for the target; got {len(pairs)}"
        )
    return synthetic_sequences(count, seed=seed, settings=settings, textures=PairTextures(pairs))
