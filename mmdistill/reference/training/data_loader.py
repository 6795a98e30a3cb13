"""Batches for one of several processes, from numbered samples, whatever breaks on the way.

The samples of a step are dealt out like cards: neighbors go to different processes, then to different passes. Each
share so has as much of the batch's first half as of its second, which TIR-CMD's mixed settings show differently.

From samples to the batches of tensors a training step takes.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mmdistill.pair import Pair
from mmdistill.reference.crops import normalize, to_pixels
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Crops, Sample, Sampler, Samples
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.run_control import SIGNALS
from mmdistill.toolkit.sequence import Image


class Batch(NamedTuple):
    """A training step's data: N reference and M test frames of each of S sequences, P proposals a test frame.

    Attributes:
        train: images ``(N, S, 3, H, W)``: of 8 bits as ``collate`` makes them, normalized once they are on a device.
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
        """Return the batch on a device, its images normalized there: of 8 bits they are a quarter as large to move."""
        there = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        return there._replace(train=Pair(*map(_normalized, there.train)), test=Pair(*map(_normalized, there.test)))

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
    """Yield the batches of steps ``start`` to ``stop``, normalized; a step's does not depend on where one starts.

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


def _normalized(images: Tensor) -> Tensor:
    return normalize(images) if images.dtype == torch.uint8 else images


def _stack(arrays: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays, axis=1)).float()


logger = logging.getLogger(__name__)

ATTEMPTS = 10
"""How many samples in a row may be unreadable; then it is the data, not an image."""

DEATHS = 3
"""How many workers in a row may die, with no batch between."""

BEYOND = 1 << 48
"""Stand-ins have numbers that no run comes to, so none is drawn twice."""


@dataclass(frozen=True)
class Share:
    """The samples of a step that one process takes, in one or more passes.

    Attributes:
        sequences: samples of a step, of all processes and passes.
        passes: how many batches a process makes of its part.
        ranks: the processes.
    """

    sequences: int
    passes: int
    ranks: DistributedContext

    @classmethod
    def of(cls, settings: TrainingSettings, ranks: DistributedContext) -> Share:
        """Return a process's share.

        Raises:
            DataError: the batch can't be shared out equally.
        """
        parts = settings.accumulate * ranks.count
        if settings.sequences % parts:
            raise DataError(
                f"training.sequences: expected a multiple of {parts} "
                f"(processes: {ranks.count}, passes of each: {settings.accumulate}), got {settings.sequences}"
            )
        return cls(settings.sequences, settings.accumulate, ranks)

    @property
    def size(self) -> int:
        """Samples of a pass."""
        return self.sequences // (self.passes * self.ranks.count)

    def number(self, index: int) -> int:
        """Return the number of this process's sample ``index``, counted over all steps."""
        batch, place = divmod(index, self.size)
        step, turn = divmod(batch, self.passes)
        return step * self.sequences + (place * self.passes + turn) * self.ranks.count + self.ranks.rank


class Loaded(NamedTuple):
    """What one pass learns from.

    Attributes:
        batch: its samples.
        replaced: for each sample that stands in for one that can't be read, why.
    """

    batch: Batch
    replaced: list[str]


class Loader:
    """Prepares a process's batches, in workers that are started again when they die.

    Args:
        sampler: draws the samples.
        share: which of them.
        workers: processes that prepare batches; 0 prepares them in this one.

    Attributes:
        deaths: how often workers were started again.
    """

    def __init__(self, sampler: Samples, share: Share, *, workers: int = 0) -> None:
        self.sampler, self.share, self.workers = sampler, share, workers
        self.deaths = 0

    def batches(self, start: int, stop: int) -> Iterator[Loaded]:
        """Yield the batches of steps ``start`` to ``stop``, one for each pass.

        Raises:
            DataError: nothing can be read, or workers die again and again.
        """
        done, end = start * self.share.passes, stop * self.share.passes
        in_a_row = 0
        while done < end:
            try:
                for loaded in self._from(done, end):
                    yield loaded
                    done, in_a_row = done + 1, 0
            except _WorkerDiedError as error:
                self.deaths, in_a_row = self.deaths + 1, in_a_row + 1
                if in_a_row == DEATHS:
                    raise DataError(
                        f"training.workers: {DEATHS} times in a row a worker died ({error}); is memory short? "
                        "fewer training.workers need less, and the run goes on from its checkpoint"
                    ) from error
                logger.warning("a process that prepared batches died and is started again (%s)", error)

    def _from(self, done: int, end: int) -> Iterator[Loaded]:
        size = self.share.size
        samples = _Samples(self.sampler, self.share, done * size, (end - done) * size)
        loader = DataLoader(
            samples,
            batch_size=size,
            num_workers=self.workers,
            collate_fn=_collate,
            worker_init_fn=_begin_worker,
        )
        with _quiet_children():
            iterator = iter(loader)
        while True:
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers or not _tells_of_death(error):
                    raise
                raise _WorkerDiedError(str(error).split("\n", maxsplit=1)[0]) from error
            if isinstance(loaded, str):
                raise DataError(f"training data: {loaded}")
            yield loaded


def _tells_of_death(error: Exception) -> bool:
    """Whether a worker is gone, and not an error of its own passed on; its last batch may have broken off."""
    text = str(error)
    return not text.startswith("Caught ") and (
        text.startswith("DataLoader worker") or not isinstance(error, RuntimeError)
    )


class _WorkerDiedError(Exception):
    """A process that prepared batches is gone."""


_Read = tuple["Sample | None", "list[str]"]
"""A sample, if one could be read, and why others could not."""


class _Samples(Dataset[_Read]):
    def __init__(self, sampler: Samples, share: Share, first: int, count: int) -> None:
        self.sampler, self.share, self.first, self.count = sampler, share, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> _Read:
        number = self.share.number(self.first + index)
        broken: list[str] = []
        for attempt in range(ATTEMPTS):
            try:
                return self.sampler.sample(number + attempt * BEYOND), broken
            except DataError as error:
                broken.append(str(error))
        return None, broken


def _collate(samples: list[_Read]) -> Loaded | str:
    """Return the samples as a batch; or why there is none, which as an error would lose its class on the way."""
    read = []
    for sample, broken in samples:
        if sample is None:
            return f"{ATTEMPTS} samples in a row can't be read, the first because of {broken[0]}"
        read.append(sample)
    return Loaded(collate(read), [reason for _, broken in samples for reason in broken])


def _begin_worker(_: int) -> None:
    """Let a worker be ended as its parent wants, which alone finishes what is under way; and keep to one core."""
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)


@contextmanager
def _quiet_children() -> Iterator[None]:
    """Keep PyTorch from raising a worker's death wherever this process is, in the midst of a step perhaps.

    It is noticed where the next batch is waited for.
    """
    number = getattr(signal, "SIGCHLD", None)  # Windows has no such signal
    before = None if number is None else signal.getsignal(number)
    try:
        yield
    finally:
        if number is not None:
            with suppress(ValueError):  # outside the main thread PyTorch sets none either
                signal.signal(number, before)
