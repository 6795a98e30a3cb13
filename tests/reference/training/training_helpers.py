"""Helpers of the training tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard
from mmdistill.reference.training.sampler import Samples
from mmdistill.reference.training.stages import DistilledStage

needs_signals = pytest.mark.skipif(os.name == "nt", reason="sends POSIX signals; on Windows os.kill ends the process")


def load_batches(sampler: Samples, batch_size: int, start: int = 0, stop: int = 1) -> Iterator[Batch]:
    """Yield the normalized batches of steps ``start`` to ``stop - 1``."""
    for loaded in BatchLoader(sampler, BatchShard(batch_size)).batches(start, stop):
        yield loaded.batch.to(torch.device("cpu"))


def reached(stage: DistilledStage) -> set[str]:
    """Return the parts of a stage whose parameters have a gradient."""
    return {
        name.removeprefix("network.").split(".")[0]
        for name, parameter in stage.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().sum() > 0
    }
