"""What each of two processes does: its half of the batch of every case, and of a tracker in every wrapping."""

from __future__ import annotations

import datetime
import gc
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from harness.case import Case, Sizes, named, samples
from harness.cases import CASES
from harness.tracker import FIND_UNUSED, WRAPPINGS, watched, wrapped
from torch import Tensor, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from mmdistill import DeadTermWarning

RANKS = 2
JOINED = Sizes(batch=2 * RANKS)
SEARCHES = (False, True)
"""DDP without and with its search for unused parameters, which looks for tensors inside the outputs."""


def start(folder: Path) -> None:
    """Run every case in two processes, which leave ``<rank>.pt`` in the folder: what ``results`` returns."""
    multiprocessing.spawn(_run, args=(folder,), nprocs=RANKS)


def shard(case: Case, tensors: dict[str, Tensor], rank: int) -> dict[str, Tensor]:
    """Return one rank's samples as leaves."""
    chosen = torch.arange(JOINED.batch).chunk(RANKS)[rank]
    return case.attached({name: samples(values, case.inputs[name].axes, chosen) for name, values in tensors.items()})


def _run(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=RANKS,
        timeout=datetime.timedelta(seconds=60),
    )
    results = {f"{case.name} {search}": _result(case, rank, search) for case in CASES for search in SEARCHES}
    results |= {wrapping.name: wrapped(wrapping, rank, RANKS) for wrapping in [*WRAPPINGS, FIND_UNUSED]}
    results |= dict(watched())
    torch.save(results, folder / f"{rank}.pt")
    dist.barrier()
    gc.collect()  # wrapped models go before their group
    dist.destroy_process_group()


def _result(case: Case, rank: int, search: bool) -> dict[str, dict[str, Tensor]] | str:
    """Return the second step's outputs and gradients: DDP finds parameters without gradient at the second only."""
    try:
        # Such as of gradients that are not laid out as the buckets they are copied to.
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DeadTermWarning)
        module, tensors = case.module(JOINED), shard(case, case.tensors(JOINED), rank)
        call = _wrapped(module, search)
        for _ in range(2):
            module.zero_grad()
            for name in case.students:
                tensors[name].grad = None
            outcome = case.call(call, tensors)
            case.scalar(outcome).backward()
    except Exception:
        return traceback.format_exc()
    gradients = {
        name: torch.zeros_like(values) if values.grad is None else values.grad
        for name, values in case.learners(module, tensors).items()
    }
    return {"outputs": named(outcome), "gradients": gradients}


def _wrapped(module: nn.Module, search: bool) -> Callable[..., object]:
    if not any(parameter.requires_grad for parameter in module.parameters()):
        return module  # DDP refuses what has nothing to synchronize
    return DistributedDataParallel(module, find_unused_parameters=search)
