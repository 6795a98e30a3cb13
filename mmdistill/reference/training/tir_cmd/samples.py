"""TIR-CMD's samples: patches of unlabeled RGB-TIR pairs, each a sequence of one frame.

Patches come from a sampler or a detector, or from files with a detector's boxes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.tir_cmd import BranchSetting, CenterArea, Detection, Patches, RandomSampling, SaliencyDetector
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets.image_pairs import Pairs
from mmdistill.toolkit.io import read_text
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Boxes, FramePair, Image

Detections = tuple[Tensor, Tensor, Tensor]
"""Boxes ``(P, 4)`` as ``x y w h`` in pixels, scores and labels ``(P,)``."""

_SEPARATOR = re.compile(r"\s*,\s*|\s+")


class BoxFiles:
    """A detector's boxes in text files, one file per image, with lines ``x y w h [score [label]]``.

    Image ``set00/V000/1.png`` has its boxes in ``set00/V000/1.txt``; an empty file means no boxes. Values are separated
    by commas, tabs or spaces. The default score is 1. Labels may be words; they are not used and returned as 0.

    Args:
        folder: folder of the files.

    Raises:
        DataError: the folder doesn't exist.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: expected a folder of box files, it doesn't exist")

    def read(self, name: str) -> Detections:
        """Return the boxes of an image.

        Args:
            name: the image's path relative to the folder of images.

        Raises:
            DataError: the file is missing, or a line is invalid.
        """
        path = self.folder / PurePosixPath(name).with_suffix(".txt")
        boxes, scores = [], []
        for number, line in enumerate(read_text(path).splitlines(), start=1):
            if not line.strip():
                continue
            try:
                values = [float(word) for word in _SEPARATOR.split(line.strip())[:5]]
            except ValueError:
                values = []
            if len(values) < 4 or not all(map(math.isfinite, values)):
                raise DataError(f"{path}, line {number}: expected x y w h [score [label]], got {line.strip()[:60]!r}")
            boxes.append(values[:4])
            scores.append(values[4] if len(values) > 4 else 1.0)
        return torch.tensor(boxes).reshape(-1, 4), torch.tensor(scores), torch.zeros(len(boxes), dtype=torch.long)

    def detector(self, name: str) -> Callable[[Tensor], Detections]:
        """Return a detector that returns the boxes of image ``name`` for any input."""
        return lambda image: self.read(name)  # noqa: ARG005


PatchesByName = Callable[[str], Patches]
"""Returns the patch sampler for the pair of a name."""

MAX_LISTED_REASONS = 5
"""Number of reasons for skipped pairs that are listed."""


class PatchSequence:
    """A ``TrackingSequence`` of one frame, the whole pair, with a patch as its target.

    Args:
        pairs: source of the pair.
        index: the pair's index.
        box: the patch ``(4,)``, ``x y w h`` in pixels.
    """

    def __init__(self, pairs: Pairs, index: int, box: NDArray[np.float64]) -> None:
        self._pairs, self._index = pairs, index
        self._boxes: Boxes = box[None]

    @property
    def name(self) -> str:
        """The pair's name."""
        return self._pairs.names[self._index]

    @property
    def boxes(self) -> Boxes:
        """The patch, ``(1, 4)``."""
        return self._boxes

    @property
    def attributes(self) -> dict[str, NDArray[np.bool_]]:
        """No attributes."""
        return {}

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> FramePair:
        """Return the whole pair; the only frame is 0."""
        if index:
            raise IndexError(index)
        return Pair(*self._pairs.pair(self._index))


@dataclass(frozen=True)
class PatchedPairs:
    """The patches of a folder of pairs.

    Attributes:
        sequences: one for each patch; pairs with more patches are drawn more often.
        used: number of pairs with a patch.
        skipped: the reason for each skipped pair.
    """

    sequences: list[PatchSequence]
    used: int
    skipped: list[str]

    def __str__(self) -> str:
        lines = [f"{self.used} pairs used, {len(self.sequences)} patches; {len(self.skipped)} pairs skipped"]
        lines += [f"  {printable(reason)}" for reason in self.skipped[:MAX_LISTED_REASONS]]
        if len(self.skipped) > MAX_LISTED_REASONS:
            lines.append(f"  and {len(self.skipped) - MAX_LISTED_REASONS} more")
        return "\n".join(lines)


def patch_sequences(pairs: Pairs, patches: PatchesByName, *, seed: int = 0, progress: bool = True) -> PatchedPairs:
    """Return a sequence for every patch of every pair.

    Every pair is read once. A pair that can't be read, is smaller than 9 x 9 pixels or has no patch is skipped, as are
    files without a partner.

    Args:
        pairs: opened with ``on_broken="skip"``.
        patches: returns the patch sampler for a pair's name.
        seed: seed of random patches; a pair's patches depend on the seed and its index only.
        progress: show a progress bar.

    Raises:
        DataError: no pair has a patch.
    """
    sequences: list[PatchSequence] = []
    skipped, used = list(pairs.problems), 0
    pool = ThreadPoolExecutor()
    try:
        results = pool.map(lambda index: _find_patches(pairs, index, patches, seed), range(len(pairs)))
        with progress_bar(len(pairs), "patches", "pair", quiet=not progress) as bar:
            for index, boxes in enumerate(results):
                bar.update()
                if isinstance(boxes, str):
                    skipped.append(boxes)
                else:
                    used += 1
                    sequences += [PatchSequence(pairs, index, box) for box in boxes]
    finally:
        pool.shutdown(cancel_futures=True)
    if not sequences:
        reason = f"; {skipped[0]}" if skipped else ""
        raise DataError(f"{pairs.title}: expected at least one pair with a patch, got none of {len(skipped)}{reason}")
    return PatchedPairs(sequences, used, skipped)


def _find_patches(pairs: Pairs, index: int, patches: PatchesByName, seed: int) -> NDArray[np.float64] | str:
    """Return a pair's patches ``(P, 4)``, or the reason why there are none."""
    state = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
    try:
        images = Pair(*map(_as_tensor, pairs.large_pair(index)))
        boxes = patches(pairs.names[index])(images, torch.Generator().manual_seed(state))
    except DataError as error:
        return str(error)
    if not len(boxes):
        return f"{pairs.files(index)[0]}: no patch found"
    return boxes.double().numpy()


def _as_tensor(image: Image) -> Tensor:
    """Return ``(3, H, W)``, uint8; a copy, because cached images are read-only."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


class SettingSamples(NamedTuple):
    """A setting's samples, and a description of their source."""

    sampler: Sampler
    data: str


class PatchSamples:
    """Returns the samples of settings; pairs are searched once for each kind of patches.

    Args:
        pairs: opened with ``on_broken="skip"``.
        network: the tracker's settings, for the size of its crops.
        boxes: a detector's boxes; without them, detected patches are salient regions.
        progress: show progress bars.

    Attributes:
        patched: the pairs' patches, by kind.
    """

    def __init__(
        self, pairs: Pairs, network: NetworkSettings, *, boxes: BoxFiles | None = None, progress: bool = True
    ) -> None:
        self.pairs, self.network, self.boxes, self.progress = pairs, network, boxes, progress
        self.patched: dict[str, PatchedPairs] = {}

    def __call__(self, setting: BranchSetting, training: TrainingSettings) -> SettingSamples:
        """Return a setting's samples.

        Raises:
            DataError: no pair has a patch.
        """
        kind = setting.patches or "center"
        if kind not in self.patched:
            self.patched[kind] = patch_sequences(
                self.pairs, self._patch_samplers(kind), seed=training.seed, progress=self.progress
            )
        sampler = Sampler(
            self.patched[kind].sequences,
            self.network.crop_size,
            self.network.search_area,
            training.samples,
            seed=training.seed,
        )
        source = f"{self.pairs.title}, {len(self.pairs)} pairs, {kind}"
        if kind == "detection":
            source += f" by {'saliency' if self.boxes is None else self.boxes.folder}"
        return SettingSamples(sampler, source)

    def _patch_samplers(self, kind: str) -> PatchesByName:
        boxes = self.boxes
        if kind == "detection" and boxes is not None:
            return lambda name: Detection(boxes.detector(name), modalities=("rgb",))  # boxes are the same in both
        patches: dict[str, Patches] = {
            "center": CenterArea(),
            "random": RandomSampling(),
            "detection": Detection(SaliencyDetector()),
        }
        return lambda name: patches[kind]  # noqa: ARG005
