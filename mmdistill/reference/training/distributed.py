"""Processes that train together: who one is, what all agree on, and how torchrun's are joined."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.folder_lock import LOCK_FILE_NAME, acquire_lock, release_lock
from mmdistill.toolkit.interruption import TERMINATION_SIGNALS


@dataclass(frozen=True)
class DistributedContext:
    """This process among those that train together; without a process group it is alone.

    Attributes:
        rank: which one it is, from 0.
        count: how many there are.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> DistributedContext:
        """Return this process's place in PyTorch's process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this process writes, shows and says what all have done."""
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Return each value's sum over all processes; all must ask, and with as many values."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return [float(value) for value in summed.tolist()]

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return self.total(flag)[0] > 0

    def signal(self, received: Collection[int]) -> int:
        """Return the number of a signal that some process received, the same in all; 0 if none did."""
        counts = self.total(*(number in received for number in TERMINATION_SIGNALS))
        return next((number for number, count in zip(TERMINATION_SIGNALS, counts, strict=True) if count), 0)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Return the means over all processes of values that all have by the same names."""
        return dict(zip(values, (total / self.count for total in self.total(*values.values())), strict=True))

    @contextmanager
    def hold(self, folder: Path) -> Iterator[None]:
        """Keep other runs out of a folder until the block ends; the first process holds the lock for all.

        Raises:
            DataError: another run is writing there, in all processes.
            OSError: the folder can't be written.
        """
        failure = self.write(lambda: acquire_lock(folder / LOCK_FILE_NAME))
        if failure is not None:
            raise failure
        try:
            yield
        finally:
            if self.first:
                release_lock(folder / LOCK_FILE_NAME)

    def write(self, action: Callable[[], None]) -> OSError | None:
        """Let the first process write, and tell all why it could not.

        Raises:
            DataError: the first process refused to write, in all processes.
        """
        failed: OSError | None = None
        refused: DataError | None = None
        if self.first:
            try:
                action()
            except OSError as error:
                failed = error
            except DataError as error:
                refused = error
        failures, refusals = self.total(failed is not None, refused is not None)
        if refusals:
            raise refused or DataError("the first process could not write, as it says")
        return failed or (OSError("the first process could not write") if failures else None)


def join(device: str) -> torch.device:
    """Join the processes that torchrun started, if it did, and return the device of this one.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``; each of several processes takes a GPU of its own.

    Raises:
        DataError: no such device, or more processes than GPUs.
    """
    place = choose_device(device)
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return place
    if place.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise DataError(f"torchrun: expected a GPU for each process, got {torch.cuda.device_count()} GPUs here")
        place = torch.device("cuda", local)
        torch.cuda.set_device(place)
    dist.init_process_group("cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo")
    return place


def leave() -> None:
    """Part from the others in good order; after an error torchrun ends them all."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # stages wrapped for the group go before it: PyTorch can wait for ever otherwise
        dist.destroy_process_group()
