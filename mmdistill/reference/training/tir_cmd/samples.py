"""The samples that TIR-CMD's settings learn from: of the same pairs, each setting's own patches.

From unlabeled pairs to what samples are drawn from: every patch of a pair is a sequence of one frame.

Boxes that a detector found elsewhere, read from files as if it ran here.
"""

from __future__ import annotations

import logging
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
    """A folder with a text file per image, lines of ``x y w h [score [label]]``; an empty file is an image without any.

    Image ``1.png`` has its boxes in ``1.txt``, and ``set00/V000/I00000.jpg`` in ``set00/V000/I00000.txt``. Commas, tabs
    or spaces separate. A box without a score has the score 1. Labels may be words; nobody reads them, so all are 0.

    Args:
        folder: where the files are.

    Raises:
        DataError: there is no such folder.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise DataError(f"{folder}: expected a folder of box files, there is none")

    def read(self, name: str) -> Detections:
        """Return the boxes of the image of this name.

        Raises:
            DataError: it has no file, or a line is something else; the message has its number.
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
        """Return a detector that finds in any image the boxes of the image of this name."""
        return lambda image: self.read(name)  # noqa: ARG005


logger = logging.getLogger(__name__)

PatchesOf = Callable[[str], Patches]
"""The patches of the pair of a name."""

SHOWN = 5
"""How many reasons are told one by one."""


class PatchSequence:
    """A patch of a pair as a ``TrackingSequence`` of one frame, the patch its target.

    Args:
        pairs: where the pair is read.
        index: which one.
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
        """None."""
        return {}

    def __len__(self) -> int:
        return 1

    def frame(self, index: int) -> FramePair:
        """Return the whole pair; there is no frame but 0."""
        if index:
            raise IndexError(index)
        return Pair(*self._pairs.pair(self._index))


@dataclass(frozen=True)
class PatchedPairs:
    """What was made of a folder of pairs.

    Attributes:
        sequences: a patch each; pairs with more patches are drawn more often.
        used: pairs that have a patch.
        skipped: for each pair that was left out, why.
    """

    sequences: list[PatchSequence]
    used: int
    skipped: list[str]

    def __str__(self) -> str:
        lines = [f"{self.used} pairs used, {len(self.sequences)} patches; {len(self.skipped)} pairs skipped"]
        lines += [f"  {printable(reason)}" for reason in self.skipped[:SHOWN]]
        if len(self.skipped) > SHOWN:
            lines.append(f"  and {len(self.skipped) - SHOWN} more")
        return "\n".join(lines)


def patch_sequences(pairs: Pairs, patches: PatchesOf, *, seed: int = 0, progress: bool = True) -> PatchedPairs:
    """Return a sequence for every patch of every pair.

    Every pair is read once, in order to find its patches and to know that it can be read. A pair that can't be read, is
    smaller than 9 x 9 pixels, or has no patch is left out, and so are files without a partner.

    Args:
        pairs: opened with ``on_broken="skip"``.
        patches: how boxes are found, by the pair's name.
        seed: of random patches; a pair's own generator depends on it and on the pair's number alone.
        progress: whether to show a progress bar.

    Raises:
        DataError: nothing is left.
    """
    sequences: list[PatchSequence] = []
    skipped, used = list(pairs.problems), 0
    pool = ThreadPoolExecutor()
    try:
        found = pool.map(lambda index: _boxes(pairs, index, patches, seed), range(len(pairs)))
        with progress_bar(len(pairs), "patches", "pair", quiet=not progress) as bar:
            for index, boxes in enumerate(found):
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
        raise DataError(f"{pairs.title}: no pair with a patch is left of {len(skipped)}{reason}")
    return PatchedPairs(sequences, used, skipped)


def _boxes(pairs: Pairs, index: int, patches: PatchesOf, seed: int) -> NDArray[np.float64] | str:
    """Return a pair's patches ``(P, 4)``, or why there are none."""
    state = int(np.random.SeedSequence((seed, index)).generate_state(1, np.uint64)[0])
    try:
        images = Pair(*map(_as_tensor, pairs.large_pair(index)))
        boxes = patches(pairs.names[index])(images, torch.Generator().manual_seed(state))
    except DataError as error:
        return str(error)
    if not len(boxes):
        return f"{pairs.files(index)[0]}: no patch was found in it"
    return boxes.double().numpy()


def _as_tensor(image: Image) -> Tensor:
    """Return ``(3, H, W)``, uint8; a copy, because kept images are read-only."""
    return torch.from_numpy(image.transpose(2, 0, 1).copy())


class SettingSamples(NamedTuple):
    """What a setting learns from: samples, and in words what they are drawn from."""

    sampler: Sampler
    data: str


class PatchSamples:
    """Gives settings their samples; pairs are searched once for each kind of patches.

    Args:
        pairs: opened with ``on_broken="skip"``.
        network: of the tracker, for the size of its crops.
        boxes: what a detector found elsewhere; without it, patches by detection are what stands out.
        progress: whether to show progress bars.

    Attributes:
        patched: for each kind of patches that was asked for, what was made of the pairs.
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
                self.pairs, self._patches_of(kind), seed=training.seed, progress=self.progress
            )
        sampler = Sampler(
            self.patched[kind].sequences,
            self.network.crop_size,
            self.network.search_area,
            training.samples,
            seed=training.seed,
        )
        found = "saliency" if self.boxes is None else str(self.boxes.folder)
        words = f"{self.pairs.title}, {len(self.pairs)} pairs, {kind}"
        return SettingSamples(sampler, f"{words} by {found}" if kind == "detection" else words)

    def _patches_of(self, kind: str) -> PatchesOf:
        boxes = self.boxes
        if kind == "detection" and boxes is not None:
            return lambda name: Detection(boxes.detector(name), modalities=("rgb",))  # the same boxes for either
        patches: dict[str, Patches] = {
            "center": CenterArea(),
            "random": RandomSampling(),
            "detection": Detection(SaliencyDetector()),
        }
        return lambda name: patches[kind]  # noqa: ARG005
