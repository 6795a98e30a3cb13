"""Sequences for training: synthetic video, video composed from real pairs, or labeled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast, get_args

from mmdistill.reference.synthetic import PairTextures, SyntheticSettings, scene_sequences, synthetic_sequences
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets import BenchmarkName, open_benchmark
from mmdistill.toolkit.datasets.folder_sequence import ANNOTATIONS, find_annotation, read_sequences
from mmdistill.toolkit.datasets.image_pairs import NoPairsError, Pairs, open_pairs
from mmdistill.toolkit.datasets.image_pairs.folder_tree import is_modality
from mmdistill.toolkit.image_files import is_ignored
from mmdistill.toolkit.sequence import TrackingSequence

COMPOSED = SyntheticSettings(size=(480, 360), target_size=(28.0, 80.0), speed=(1.0, 6.0), camera_motion=24.0)
"""Settings of video composed from real pairs; frames are larger than the procedural default, as the pairs are."""

MAX_TEXT_FILES = 20
"""Number of text files per folder that are searched for boxes."""


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
    alignment: Alignment | None = None,
) -> Sequence[TrackingSequence]:
    """Return the training sequences of a data source.

    Args:
        data: ``"synthetic"``; a folder of aligned pairs for composed video, in any layout of ``open_pairs``; a folder
            of labeled sequences; or ``NAME:FOLDER``, a benchmark's folder, for example ``lasher:LasHeR``, with its
            training split if it has one.
        count: number of synthetic or composed videos.
        seed: seed of these videos.
        hold_out: number of pairs to leave for testing, the last by name.
        scenes: number of additional videos that are views of one pair each.
        rgb: folder of the pairs' RGB images, with ``tir`` instead of ``data``.
        tir: folder of the pairs' TIR images.
        side_by_side: each image of the folder has RGB in the left half and TIR in the right half.
        data_issues: collects the data's issues, and how many of a benchmark's sequences are used.
        alignment: how the cameras of pairs or sequences agree; see ``Pairs`` and ``FolderSequence``.

    Raises:
        DataError: the folder is missing or holds neither pairs nor sequences, or too few pairs are left.
    """
    if data is not None and rgb is None and tir is None and not side_by_side:
        name, _, root = data.partition(":")
        is_benchmark = bool(root) and name in get_args(BenchmarkName)
        if alignment is not None and (is_benchmark or data == "synthetic"):
            raise DataError(f"--align: expected pairs or sequences of your own, {data} is aligned already")
        if data == "synthetic":
            return synthetic_sequences(count, seed=seed)
        if is_benchmark:
            opened = open_benchmark(cast(BenchmarkName, name), root, split="train", partial=True)
            if data_issues is not None:
                if not opened.coverage.complete:
                    data_issues.add(opened.coverage.summary)
                data_issues.extend(opened.data_issues)
            return opened.sequences
        folder = Path(data)
        if not folder.is_dir():
            raise DataError(
                f"{data}: expected 'synthetic', a folder of pairs or a folder of sequences; the folder doesn't exist"
            )
        if _holds_sequences(folder):
            return read_sequences(folder, data_issues=data_issues, alignment=alignment)
    try:
        pairs = open_pairs(data, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip", alignment=alignment)
    except NoPairsError as error:
        names = " or ".join(ANNOTATIONS)
        raise DataError(f"{error}; and no sequences: no folder in it has a file {names}") from error
    _refuse_labels(pairs)
    if data_issues is not None:
        pairs.report_skipped(data_issues)
    pairs = pairs[: -hold_out or None]
    return [*_composed(pairs, count, seed, COMPOSED), *scene_sequences(pairs, scenes, seed=seed)]


def composed_sequences(
    pairs: Pairs | str | Path, selection: slice, *, count: int, seed: int, length: int = COMPOSED.length
) -> Sequence[TrackingSequence]:
    """Return videos composed from a selection of a folder's pairs.

    Args:
        pairs: the pairs, or their folder.
        selection: selects pairs, in the order of their names.
        count: number of videos.
        seed: seed of the videos.
        length: frames of each video.

    Raises:
        DataError: the folder holds no pairs, too few are selected, or one is too small.
    """
    if not isinstance(pairs, Pairs):
        pairs = open_pairs(pairs, on_broken="skip")
    return _composed(pairs[selection], count, seed, replace(COMPOSED, length=length))


def _holds_sequences(folder: Path) -> bool:
    """Return whether a folder, or a subfolder that is not named for a modality, has an annotation."""
    if find_annotation(folder) is not None:
        return True
    children = (child for child in folder.iterdir() if not is_ignored(child) and not is_modality(child.name))
    return any(child.is_dir() and find_annotation(child) is not None for child in children)


def _refuse_labels(pairs: Pairs) -> None:
    """Raise DataError if there are boxes next to the images of pairs: a benchmark's labels would be lost."""
    for folder in pairs.parent_folders:
        inside = [path for path in folder.iterdir() if is_modality(path.name) and path.is_dir()]
        for parent in (folder, *inside):
            for path in islice(parent.glob("*.txt"), MAX_TEXT_FILES):
                if path.is_file() and _starts_with_box(path):
                    names = ", ".join(f"{name}:" for name in get_args(BenchmarkName) if name != "vot")
                    raise DataError(
                        f"{path}: expected images only, got boxes next to them; give a benchmark by name "
                        f"({names}FOLDER)"
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
            f"{pairs.title}: expected at least 2 pairs, one for the scene and one for the target; got {len(pairs)}"
        )
    return synthetic_sequences(count, seed=seed, settings=settings, textures=PairTextures(pairs))
