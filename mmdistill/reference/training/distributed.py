"""Training in several processes: rank, sums over processes, files written by the first, and torchrun's group."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from mmdistill.reference.device import choose_device
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.folder_lock import LOCK_FILE_NAME, acquire_lock, release_lock
from mmdistill.toolkit.interruption import TERMINATION_SIGNALS


@dataclass(frozen=True)
class DistributedContext:
    """This process among all that train together; without a process group it is the only one.

    Attributes:
        rank: this process's number, from 0.
        count: number of processes.
    """

    rank: int = 0
    count: int = 1

    @classmethod
    def current(cls) -> DistributedContext:
        """Return this process's rank in PyTorch's process group."""
        if dist.is_available() and dist.is_initialized():
            return cls(dist.get_rank(), dist.get_world_size())
        return cls()

    @property
    def first(self) -> bool:
        """Whether this process writes files, shows progress and logs."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Return each value's sum over all processes; all must call this with the same number of values."""
        if self.count == 1:
            return list(values)
        summed = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(summed)
        return [float(value) for value in summed.tolist()]

    def maximum(self, values: Tensor) -> Tensor:
        """Return each value's maximum over all processes, on the values' device; the host waits for nothing."""
        if self.count > 1:
            dist.all_reduce(values, op=dist.ReduceOp.MAX)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process; all must call this."""
        return self.sum(flag)[0] > 0

    def signal(self, received: Collection[int]) -> int:
        """Return the number of a signal that any process received, the same in all processes; 0 if none did."""
        counts = self.sum(*(number in received for number in TERMINATION_SIGNALS))
        return next((number for number, count in zip(TERMINATION_SIGNALS, counts, strict=True) if count), 0)

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Return each value's mean over all processes; all must call this with the same names."""
        return dict(zip(values, (summed / self.count for summed in self.sum(*values.values())), strict=True))

    @contextmanager
    def hold(self, folder: Path) -> Iterator[None]:
        """Lock a folder against other runs until the block ends; the first process holds the lock.

        Raises:
            DataError: another run writes there; raised in all processes.
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
        """Let the first process write, and return in all processes the error if it can't.

        Raises:
            DataError: the first process raised it; raised in all processes.
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
        failures, refusals = self.sum(failed is not None, refused is not None)
        if refusals:
            raise refused or DataError("the first process can't write; see its message")
        return failed or (OSError("the first process can't write; see its message") if failures else None)


def join_process_group(device: str) -> torch.device:
    """Join torchrun's process group, if torchrun started this process, and return this process's device.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``; each of several processes uses a GPU of its own.

    Raises:
        DataError: the device is missing, or there are more processes than GPUs.
    """
    chosen = choose_device(device)
    if not (dist.is_available() and dist.is_torchelastic_launched()):
        return chosen
    if chosen.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise DataError(f"torchrun: expected one GPU for each process, got {torch.cuda.device_count()} GPUs")
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    dist.init_process_group("cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo")
    return chosen


def leave_process_group() -> None:
    """Leave torchrun's process group at the end of a run; after an error torchrun ends all processes."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # delete DistributedDataParallel modules before their group; PyTorch may hang otherwise
        dist.destroy_process_group()
