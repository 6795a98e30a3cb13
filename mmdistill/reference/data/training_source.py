"""What training may learn from: synthetic video, video composed from real pairs, or labelled sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from mmdistill.reference.data.benchmarks import BenchmarkName, open_benchmark
from mmdistill.reference.data.folders import find_annotation, read_sequences
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.data.pairs import Pairs, open_pairs
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.data.synthetic import PairTextures, SyntheticSettings, synthetic_sequences
from mmdistill.reference.data.synthetic.scenes import scene_sequences
from mmdistill.reference.errors import DataError
from mmdistill.reference.oddities import Oddities

COMPOSED = SyntheticSettings(size=(480, 360), target_size=(28.0, 80.0), speed=(1.0, 6.0), camera_motion=24.0)
"""Video composed from real pairs: larger than the procedural default, because the pairs are."""


def training_sequences(
    data: str, *, count: int, seed: int, hold_out: int = 0, scenes: int = 0, oddities: Oddities | None = None
) -> Sequence[TrackingSequence]:
    """Return the sequences that ``data`` names.

    Args:
        data: ``"synthetic"``; or a folder of aligned pairs (``rgb/`` and ``tir/`` with the same names), from which
            videos are composed; or a folder of labelled sequences; or ``NAME:FOLDER``, a benchmark's copy, such as
            ``lasher:LasHeR``, of which the training part is taken where it has one.
        count: how many videos are synthesised or composed.
        seed: of those videos.
        hold_out: how many pairs, the last by name, are left for testing.
        scenes: how many more videos are views of one pair each.
        oddities: where is noted what is odd about labelled sequences, and how many of a benchmark's are used.

    Raises:
        DataError: the folder is missing or holds neither pairs nor sequences, or nothing is left of the pairs.
    """
    if data == "synthetic":
        return synthetic_sequences(count, seed=seed)
    name, _, place = data.partition(":")
    if place and name in get_args(BenchmarkName):
        opened = open_benchmark(cast(BenchmarkName, name), place, split="train", partial=True)
        if oddities is not None:
            if not opened.coverage.complete:
                oddities.add(opened.coverage.line)
            oddities.extend(opened.oddities)
        return opened.sequences
    folder = Path(data)
    if not folder.is_dir():
        raise DataError(
            f"{data}: expected 'synthetic', a folder of pairs or a folder of sequences; there is no such folder"
        )
    if modality_folders(folder) is not None and find_annotation(folder) is None:
        pairs = open_pairs(folder)[: -hold_out or None]
        return [*_composed(pairs, count, seed, COMPOSED), *scene_sequences(pairs, scenes, seed=seed)]
    return read_sequences(folder, oddities=oddities)


def composed_sequences(
    pairs: str | Path, which: slice, *, count: int, seed: int, length: int = COMPOSED.length
) -> Sequence[TrackingSequence]:
    """Return videos of ``length`` frames composed from some of a folder's pairs.

    Raises:
        DataError: the folder holds no pairs, or too few are left.
    """
    return _composed(open_pairs(pairs)[which], count, seed, replace(COMPOSED, length=length))


def _composed(pairs: Pairs, count: int, seed: int, settings: SyntheticSettings) -> Sequence[TrackingSequence]:
    if len(pairs) < 2:
        raise DataError(
            f"{pairs.root}: composing takes at least 2 pairs, one for the scene, one for the target; got {len(pairs)}"
        )
    return synthetic_sequences(count, seed=seed, settings=settings, textures=PairTextures(pairs))
