"""The ablation's video: what is learned from, what chooses, what tests; composed so that no two share a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from parts.ablation.sizes import Size

from mmdistill.reference.synthetic import (
    PairTextures,
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
"""Of each part's video; the first number of every video's seed, so that no two parts share one."""

ATTRIBUTES = (
    "low_illumination",
    "thermal_crossover",
    "occlusion",
    "similar_appearance",
    "scale_variation",
    "fast_motion",
)
"""What composed video knows of; each must be there in the test sequences."""


def split(pairs: Pairs, size: Size) -> dict[str, Pairs]:
    """Return the pairs of each part, in the order of their names: training, validation, test.

    Raises:
        DataError: a part would have fewer than the two pairs that composing takes.
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
    """Refuse parts that share a pair, by name or by what is in either of its images.

    Raises:
        DataError: they do.
    """
    seen = {name: _contents(pairs) for name, pairs in parts.items()}
    for one, other in combinations(parts, 2):
        if shared := sorted(seen[one].keys() & seen[other].keys()):
            first = shared[0]
            raise DataError(f"{one} and {other} share {len(shared)} images, {seen[one][first]}, {seen[other][first]}")


def _contents(pairs: Pairs) -> dict[str, str]:
    """Return for every name, and for every image by a digest of its pixels, where it is from."""
    found = {f"name {name}": name for name in pairs.names}
    for index, name in enumerate(pairs.names):
        for image in pairs.pair(index):
            found[hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()] = name
    return found


@dataclass(frozen=True)
class Videos:
    """The ablation's video, made when it is asked for.

    Attributes:
        size: how much.
        pairs: folder of pairs; empty: all video is procedural.
    """

    size: Size
    pairs: str

    def parts(self) -> dict[str, Pairs] | None:
        """Return the pairs of each part; None where there are none."""
        return split(open_pairs(self.pairs), self.size) if self.pairs else None

    def training(self) -> list[TrackingSequence]:
        """Return what is learned from."""
        size, parts = self.size, self.parts()
        seed = SEEDS["training"]
        if parts is None:
            count = size.train_videos + size.train_scenes + size.train_procedural
            return [*_videos("procedural", ProceduralTextures(), count, seed + 1, size.video)]
        return [
            *_videos("composed", PairTextures(parts["training"]), size.train_videos, seed, size.video),
            *_videos("procedural", ProceduralTextures(), size.train_procedural, seed + 1, size.video),
            *scene_sequences(parts["training"], size.train_scenes, seed=seed),
        ]

    def validation(self) -> list[TrackingSequence]:
        """Return what hyper-parameters are chosen on."""
        return self._held_out("validation", self.size.validation)

    def test(self) -> list[TrackingSequence]:
        """Return what the tables are measured on."""
        return self._held_out("test", self.size.held_out)

    def _held_out(self, part: str, counts: tuple[int, int]) -> list[TrackingSequence]:
        composed, procedural = counts
        parts, seed = self.parts(), SEEDS[part]
        settings = replace(self.size.video, length=self.size.held_out_length)
        if parts is None:
            return [*_videos("procedural", ProceduralTextures(), composed + procedural, seed + 1, settings)]
        return [
            *_videos("composed", PairTextures(parts[part]), composed, seed, settings),
            *_videos("procedural", ProceduralTextures(), procedural, seed + 1, settings),
        ]


def _videos(
    kind: str, textures: TextureSource, count: int, seed: int, settings: SyntheticSettings
) -> list[TrackingSequence]:
    return [
        SyntheticSequence(settings, textures, (seed, number), name=f"{kind}_{number:04d}") for number in range(count)
    ]


def present(sequences: Sequence[TrackingSequence]) -> dict[str, int]:
    """Return in how many sequences each attribute is present.

    Raises:
        DataError: one is in none.
    """
    counts = {name: sum(bool(np.any(each.attributes[name])) for each in sequences) for name in ATTRIBUTES}
    if missing := [name for name, count in counts.items() if not count]:
        raise DataError(f"test sequences: expected every attribute in some, got none with {', '.join(missing)}")
    return counts


def described(videos: Videos) -> dict[str, object]:
    """Return what the parts are made of, after checking that they are disjoint and complete.

    Raises:
        DataError: they are not.
    """
    parts, test = videos.parts(), videos.test()
    if parts is not None:
        check_disjoint(parts)
    return {
        "pairs": Path(videos.pairs).name if parts is not None else None,
        "pairs of each part": {name: len(part) for name, part in parts.items()} if parts is not None else None,
        "test sequences": len(test),
        "test frames": sum(map(len, test)),
        "test sequences with": present(test),
    }
