"""From unlabelled pairs to what samples are drawn from: every patch of a pair is a sequence of one frame."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.data.pairs import Pairs
from mmdistill.reference.data.sequence import Boxes, FramePair, Image
from mmdistill.reference.errors import DataError, printable
from mmdistill.reference.progress import progress_bar
from mmdistill.unsupervised import Patches

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
