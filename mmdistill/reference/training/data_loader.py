"""The data loader: from numbered samples to the batches of one process.

A step's samples are dealt to the processes in turn, then to each process's passes. Each shard so has equally many
samples of the batch's first and second half, which TIR-CMD's mixed settings treat differently.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.util import Finalize
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
from mmdistill.reference.training.sampler import Crops, Sample, Samples
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.interruption import TERMINATION_SIGNALS
from mmdistill.toolkit.sequence import Image

logger = logging.getLogger(__name__)

MAX_READ_ATTEMPTS = 10
"""A run stops after this many unreadable samples in a row."""

MAX_WORKER_DEATHS = 3
"""A run stops after this many worker deaths in a row, without a batch in between."""

LAST_FINALIZER = -100
"""Priority of a worker's last finalizer: after those of ``multiprocessing``, which are -5 and more."""

REPLACEMENT_OFFSET = 1 << 48
"""Added to a sample's number for its replacement; no run reaches such numbers, so no sample is drawn twice."""


class Batch(NamedTuple):
    """A training step's data: N reference and M test frames of each of S sequences, P proposals per test frame.

    Attributes:
        train: images ``(N, S, 3, H, W)``: uint8 from ``collate``, normalized float after ``to``.
        train_boxes: ``(N, S, 4)``, ``x y w h`` in crop pixels.
        test: images ``(M, S, 3, H, W)``, as ``train``.
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
        """Return the batch on a device, its images normalized there; as uint8 they are a quarter as large to move."""
        moved = self.map(lambda tensor: tensor.to(device, non_blocking=True))
        return moved._replace(train=Pair(*map(_normalized, moved.train)), test=Pair(*map(_normalized, moved.test)))

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
    """Return the samples stacked on the sequence axis, their images as uint8."""
    return Batch(
        _images([sample.train for sample in samples]),
        _stack([sample.train.boxes for sample in samples]),
        _images([sample.test for sample in samples]),
        _stack([sample.test.boxes for sample in samples]),
        _stack([sample.proposals for sample in samples]),
        _stack([sample.overlaps for sample in samples]),
    )


def _images(crops: list[Crops]) -> Pair[Tensor]:
    def modality(images: list[list[Image]]) -> Tensor:
        # The first frames of all sequences, then the second ones: frames on axis 0, sequences on axis 1.
        by_frame = [image for frame in zip(*images, strict=True) for image in frame]
        return rearrange(to_pixels(by_frame), "(n s) c h w -> n s c h w", s=len(images))

    return Pair(modality([crop.images.rgb for crop in crops]), modality([crop.images.tir for crop in crops]))


def _normalized(images: Tensor) -> Tensor:
    return normalize(images) if images.dtype == torch.uint8 else images


def _stack(arrays: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.stack(arrays, axis=1)).float()


@dataclass(frozen=True)
class BatchShard:
    """The samples of each step that one process computes, in one or more passes.

    Attributes:
        batch_size: samples per step, over all processes and passes.
        passes: batches into which a process splits its samples of a step.
        distributed: this process among all.
    """

    batch_size: int
    passes: int = 1
    distributed: DistributedContext = field(default_factory=DistributedContext)

    @classmethod
    def of(cls, settings: TrainingSettings, distributed: DistributedContext) -> BatchShard:
        """Return a process's shard.

        Raises:
            DataError: the batch can't be divided equally.
        """
        divisor = settings.grad_accumulation * distributed.count
        if settings.batch_size % divisor:
            raise DataError(
                f"training.batch_size: expected a multiple of {divisor} (processes: {distributed.count}, passes of "
                f"each: {settings.grad_accumulation}), got {settings.batch_size}"
            )
        return cls(settings.batch_size, settings.grad_accumulation, distributed)

    @property
    def size(self) -> int:
        """Samples per pass."""
        return self.batch_size // (self.passes * self.distributed.count)

    def sample_number(self, index: int) -> int:
        """Return the number of this process's sample ``index``, counted over all steps."""
        batch, position = divmod(index, self.size)
        step, turn = divmod(batch, self.passes)
        within = (position * self.passes + turn) * self.distributed.count + self.distributed.rank
        return step * self.batch_size + within


class LoadedBatch(NamedTuple):
    """The batch of one pass.

    Attributes:
        batch: its samples.
        replaced: for each sample that had to be replaced, the reason.
    """

    batch: Batch
    replaced: list[str]


class BatchLoader:
    """Prepares a process's batches, and restarts its workers if one dies.

    A step's batch depends on the sampler and the step's number only, not on workers or on the first step.

    Args:
        sampler: draws the samples.
        shard: the samples to load.
        workers: processes that prepare batches; 0 prepares them in this process.

    Attributes:
        restarts: how often workers were restarted.
    """

    def __init__(self, sampler: Samples, shard: BatchShard, *, workers: int = 0) -> None:
        self.sampler, self.shard, self.workers = sampler, shard, workers
        self.restarts = 0

    def batches(self, start: int, stop: int) -> Generator[LoadedBatch, None, None]:
        """Yield the batches of steps ``start`` to ``stop - 1``, one for each pass. Closing it ends the workers.

        Raises:
            DataError: no sample can be read, or workers die again and again.
        """
        done, end = start * self.shard.passes, stop * self.shard.passes
        deaths_in_a_row = 0
        while done < end:
            try:
                with closing(self._load(done, end)) as batches:
                    for loaded in batches:
                        yield loaded
                        done, deaths_in_a_row = done + 1, 0
            except _WorkerDiedError as error:
                self.restarts, deaths_in_a_row = self.restarts + 1, deaths_in_a_row + 1
                if deaths_in_a_row == MAX_WORKER_DEATHS:
                    raise DataError(
                        f"training.workers: a worker died {MAX_WORKER_DEATHS} times in a row ({error}); it may lack "
                        "memory: use fewer training.workers, the run resumes from its checkpoint"
                    ) from error
                logger.warning("a worker that prepares batches died and is restarted (%s)", error)

    def _load(self, start: int, end: int) -> Generator[LoadedBatch, None, None]:
        """Yield batches ``start`` to ``end - 1``, counted in passes."""
        size = self.shard.size
        loader = DataLoader(
            _NumberedSamples(self.sampler, self.shard, start * size, (end - start) * size),
            batch_size=size,
            num_workers=self.workers,
            collate_fn=_collate_readable,
            worker_init_fn=_initialize_worker,
        )
        with _keep_child_handler():
            iterator = iter(loader)
        while True:
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except (RuntimeError, OSError, EOFError) as error:
                if not self.workers or not _is_worker_death(error):
                    raise
                raise _WorkerDiedError(str(error).split("\n", maxsplit=1)[0]) from error
            if isinstance(loaded, str):
                raise DataError(f"training data: {loaded}")
            yield loaded


class _WorkerDiedError(Exception):
    """A process that prepares batches ended."""


def _is_worker_death(error: Exception) -> bool:
    """Return whether an error means that a worker ended; PyTorch passes on a worker's own errors as "Caught ..."."""
    text = str(error)
    # OSError and EOFError come from a batch that broke off in the middle.
    return not text.startswith("Caught ") and (
        text.startswith("DataLoader worker") or not isinstance(error, RuntimeError)
    )


_ReadResult = tuple[Sample | None, list[str]]
"""A sample, or None if none could be read; and the reason of each failed attempt."""


class _NumberedSamples(Dataset[_ReadResult]):
    def __init__(self, sampler: Samples, shard: BatchShard, first: int, count: int) -> None:
        self.sampler, self.shard, self.first, self.count = sampler, shard, first, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> _ReadResult:
        number = self.shard.sample_number(self.first + index)
        failures: list[str] = []
        for attempt in range(MAX_READ_ATTEMPTS):
            try:
                return self.sampler.sample(number + attempt * REPLACEMENT_OFFSET), failures
            except DataError as error:
                failures.append(str(error))
        return None, failures


def _collate_readable(results: list[_ReadResult]) -> LoadedBatch | str:
    """Return the samples as a batch, or the reason why there is none: a raised error would lose its class."""
    samples = []
    for sample, failures in results:
        if sample is None:
            return f"can't read {MAX_READ_ATTEMPTS} samples in a row, the first because of {failures[0]}"
        samples.append(sample)
    return LoadedBatch(collate(samples), [reason for _, failures in results for reason in failures])


def _initialize_worker(_: int) -> None:
    """Use one core, ignore Ctrl-C (the parent finishes its step first), and end at other signals."""
    Finalize(None, _exit_worker, exitpriority=LAST_FINALIZER)
    cv2.setNumThreads(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in TERMINATION_SIGNALS[1:]:
        signal.signal(number, signal.SIG_DFL)


def _exit_worker() -> None:
    """End a worker without the interpreter's shutdown, as a forked worker ends anyway.

    PyTorch does not wait for the thread that sends the last batches. In a spawned worker the thread would ask for the
    interpreter while that shuts down, which aborts the process ("terminate called without an active exception").
    """
    if sys.exc_info()[0] is None:  # else the worker failed, and has another exit status
        for stream in (sys.stdout, sys.stderr):
            with suppress(AttributeError, OSError, ValueError):  # no stream, or a closed one
                stream.flush()
        os._exit(0)


@contextmanager
def _keep_child_handler() -> Iterator[None]:
    """Keep this process's SIGCHLD handler.

    PyTorch's own raises a worker's death at once, in the middle of a step. Without it the death is noticed when the
    next batch is due. Windows has no SIGCHLD.
    """
    number = getattr(signal, "SIGCHLD", None)
    if number is None:
        yield
        return
    before = signal.getsignal(number)
    try:
        yield
    finally:
        with suppress(ValueError):  # outside the main thread, where PyTorch sets no handler either
            signal.signal(number, signal.SIG_DFL if before is None else before)
