"""From samples to the batches of tensors a training step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmdistill.pair import Pair
from mmdistill.reference.data.sampling import Crops, Sample, Sampler
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.data.tensors import normalise, to_pixels


class Batch(NamedTuple):
    """A training step's data: N reference and M test frames of each of S sequences, P proposals a test frame.

    Attributes:
        train: images ``(N, S, 3, H, W)``: of 8 bits as ``collate`` makes them, normalised once they are on a device.
        train_boxes: ``(N, S, 4)``, ``x y w h`` in crop pixels.
        test: images ``(M, S, 3, H, W)``, as those.
        test_boxes: ``(M, S, 4)``.
        proposals: ``(M, S, P, 4)``.
        overlaps: the proposals' IoU with the target, ``(M, S, P)``.
    """

    train: Pair[Tensor]
    train_boxes: Tensor
    test: Pair[Tensor]
    test_boxes: Tensor
    proposals: Tensor
    overlaps: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device, its images normalised there: of 8 bits they are a quarter as large to move."""
        there = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        return there._replace(train=Pair(*map(_normalised, there.train)), test=Pair(*map(_normalised, there.test)))

    def map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with every tensor changed."""
        return Batch(
            Pair(*map(change, self.train)),
            change(self.train_boxes),
            Pair(*map(change, self.test)),
            change(self.test_boxes),
            change(self.proposals),
            change(self.overlaps),
        )


def collate(samples: list[Sample]) -> Batch:
    """Return the samples side by side on the sequence axis, their images of 8 bits."""
    return Batch(
        _images([sample.train for sample in samples]),
        _stack([sample.train.boxes for sample in samples]),
        _images([sample.test for sample in samples]),
        _stack([sample.test.boxes for sample in samples]),
        _stack([sample.proposals for sample in samples]),
        _stack([sample.overlaps for sample in samples]),
    )


class _NumberedSamples(Dataset[Sample]):
    def __init__(self, sampler: Sampler, first: int, count: int) -> None:
        self.sampler, self.first, self.count = sampler, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return self.sampler.sample(self.first + index)


def batches(sampler: Sampler, sequences: int, *, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
    """Yield the batches of steps ``start`` to ``stop``, normalised; a step's does not depend on where one starts.

    Args:
        sampler: draws the samples.
        sequences: samples S in a batch.
        start: first step.
        stop: one past the last.
        workers: processes that prepare batches; 0 prepares them in this one.
    """
    numbered = _NumberedSamples(sampler, start * sequences, (stop - start) * sequences)
    loader = DataLoader(numbered, batch_size=sequences, shuffle=False, num_workers=workers, collate_fn=collate)
    for batch in loader:
        yield batch.to(torch.device("cpu"))


def _images(crops: list[Crops]) -> Pair[Tensor]:
    def modality(images: list[list[Image]]) -> Tensor:
        # Every sequence's first frame, then every second one: frames on axis 0, sequences on axis 1.
        by_frame = [image for frame in zip(*images, strict=True) for image in frame]
        return rearrange(to_pixels(by_frame), "(n s) c h w -> n s c h w", s=len(images))

    return Pair(modality([crop.images.rgb for crop in crops]), modality([crop.images.tir for crop in crops]))


def _normalised(images: Tensor) -> Tensor:
    return normalise(images) if images.dtype == torch.uint8 else images


def _stack(arrays: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays, axis=1)).float()
