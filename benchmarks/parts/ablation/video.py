"""The ablation's training, validation and test video; no two of them share a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from parts.ablation.sizes import Size
from parts.bundled.pictures import split_pictures

from mmdistill.reference.synthetic import (
    PairTextures,
    PictureTextures,
    ProceduralTextures,
    SyntheticSequence,
    SyntheticSettings,
    TextureSource,
    scene_sequences,
)
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.sequence import TrackingSequence

SEEDS = {"training": 0, "validation": 1_000_000, "test": 2_000_000}
"""First number of every video's seed, by part."""

ATTRIBUTES = (
    "low_illumination",
    "thermal_crossover",
    "occlusion",
    "similar_appearance",
    "scale_variation",
    "fast_motion",
)
"""Attributes of composed video; each must occur in the test sequences."""


def split(pairs: Pairs, size: Size) -> dict[str, Pairs]:
    """Return the pairs of each part, in the order of their names: training, validation, test.

    Raises:
        DataError: a part has fewer than two pairs, the minimum to compose video.
    """
    test, validation = size.test_pairs, size.validation_pairs
    parts = {
        "training": pairs[: -(test + validation)],
        "validation": pairs[-(test + validation) : -test],
        "test": pairs[-test:],
    }
    for name, part in parts.items():
        if len(part) < 2:
            raise DataError(f"{pairs.root}: expected at least 2 pairs for {name}, got {len(part)} of {len(pairs)}")
    return parts


def check_disjoint(parts: Mapping[str, Pairs]) -> None:
    """Check that no two parts share a pair, by name or by the pixels of an image.

    Raises:
        DataError: two parts share a pair.
    """
    contents = {name: _contents(pairs) for name, pairs in parts.items()}
    for first, second in combinations(parts, 2):
        if shared := sorted(contents[first].keys() & contents[second].keys()):
            names = f"{contents[first][shared[0]]}, {contents[second][shared[0]]}"
            raise DataError(f"{first} and {second} share {len(shared)} images, {names}")


def _contents(pairs: Pairs) -> dict[str, str]:
    """Return the pair's name by name and by the digest of each image's pixels."""
    sources = {f"name {name}": name for name in pairs.names}
    for index, name in enumerate(pairs.names):
        for image in pairs.pair(index):
            sources[hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()] = name
    return sources


@dataclass(frozen=True)
class Videos:
    """The ablation's video, made on demand.

    Attributes:
        size: the preset.
        pairs: folder of pairs; empty for none.
        pictures: folder of photographs and cut-outs in place of pairs; empty for none. Without either, all video is
            procedural.
    """

    size: Size
    pairs: str
    pictures: str = ""

    def parts(self) -> dict[str, Pairs] | None:
        """Return the pairs of each part; None without pairs."""
        return split(open_pairs(self.pairs), self.size) if self.pairs else None

    def textures(self, part: str) -> TextureSource | None:
        """Return what the composed video of a part is made of; None without pairs and pictures."""
        if self.pictures:
            return self.picture_textures(part)
        parts = self.parts()
        return None if parts is None else PairTextures(parts[part])

    def picture_textures(self, part: str) -> PictureTextures:
        """Return a part's photographs and cut-outs."""
        folders = [Path(self.pictures) / kind for kind in ("photographs", "cutouts")]
        return PictureTextures(*(split_pictures(folder.iterdir())[part] for folder in folders))

    def training(self) -> list[TrackingSequence]:
        """Return the training video."""
        size, textures = self.size, self.textures("training")
        seed = SEEDS["training"]
        if textures is None:
            count = size.train_videos + size.train_scenes + size.train_procedural
            return [*_videos("procedural", ProceduralTextures(), count, seed + 1, size.video)]
        videos = [
            *_videos("composed", textures, size.train_videos, seed, size.video),
            *_videos("procedural", ProceduralTextures(), size.train_procedural, seed + 1, size.video),
        ]
        if isinstance(textures, PairTextures):
            videos += scene_sequences(textures.pairs, size.train_scenes, seed=seed)
        return videos

    def validation(self) -> list[TrackingSequence]:
        """Return the validation video, on which hyperparameters are chosen."""
        return self._held_out("validation", self.size.validation)

    def test(self) -> list[TrackingSequence]:
        """Return the test video of the tables."""
        return self._held_out("test", self.size.held_out)

    def _held_out(self, part: str, counts: tuple[int, int]) -> list[TrackingSequence]:
        composed, procedural = counts
        textures, seed = self.textures(part), SEEDS[part]
        settings = replace(self.size.video, length=self.size.held_out_length)
        if textures is None:
            return [*_videos("procedural", ProceduralTextures(), composed + procedural, seed + 1, settings)]
        return [
            *_videos("composed", textures, composed, seed, settings),
            *_videos("procedural", ProceduralTextures(), procedural, seed + 1, settings),
        ]


def _videos(
    kind: str, textures: TextureSource, count: int, seed: int, settings: SyntheticSettings
) -> list[TrackingSequence]:
    return [
        SyntheticSequence(settings, textures, (seed, number), name=f"{kind}_{number:04d}") for number in range(count)
    ]


def count_attributes(sequences: Sequence[TrackingSequence]) -> dict[str, int]:
    """Return the number of sequences with each attribute.

    Raises:
        DataError: no sequence has an attribute.
    """
    counts = {name: sum(bool(np.any(each.attributes[name])) for each in sequences) for name in ATTRIBUTES}
    if missing := [name for name, count in counts.items() if not count]:
        raise DataError(f"test sequences: expected every attribute in some, got none with {', '.join(missing)}")
    return counts


def describe(videos: Videos) -> dict[str, object]:
    """Return the parts' contents, after checking that they are disjoint and complete.

    Raises:
        DataError: they are not.
    """
    parts, test = videos.parts(), videos.test()
    if parts is not None:
        check_disjoint(parts)
    pictures = {part: videos.picture_textures(part) for part in SEEDS} if videos.pictures else {}
    return {
        "pictures of each part": {part: [len(each.photographs), len(each.cutouts)] for part, each in pictures.items()},
        "pairs": Path(videos.pairs).name if parts is not None else None,
        "pairs of each part": {name: len(part) for name, part in parts.items()} if parts is not None else None,
        "test sequences": len(test),
        "test frames": sum(map(len, test)),
        "test sequences with": count_attributes(test),
    }
