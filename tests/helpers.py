"""Builders that several test files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from mmdistill import Pair

GOLDEN = Path(__file__).parent / "golden"
"""The folder of golden values of the published modules."""


def pyramid(
    channels: Sequence[int], size: tuple[int, int] = (16, 24), batch: int = 2, **options: object
) -> list[Tensor]:
    """Random maps, shallow to deep, each level half the size of the one before."""
    height, width = size
    return [torch.randn(batch, c, height >> i, width >> i, **options) for i, c in enumerate(channels)]  # type: ignore[call-overload]


def pyramids(
    channels: Sequence[int], size: tuple[int, int] = (16, 24), batch: int = 2, **options: object
) -> Pair[list[Tensor]]:
    """A pair of pyramids."""
    return Pair(pyramid(channels, size, batch, **options), pyramid(channels, size, batch, **options))
