"""Batches as training gets them, on the CPU."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard
from mmdistill.reference.training.sampler import Samples


def load_batches(sampler: Samples, batch_size: int, start: int = 0, stop: int = 1) -> Iterator[Batch]:
    """Yield the normalized batches of steps ``start`` to ``stop - 1``."""
    for loaded in BatchLoader(sampler, BatchShard(batch_size)).batches(start, stop):
        yield loaded.batch.to(torch.device("cpu"))
