"""Builders that several test files share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmdistill import Pair, Terms

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


IS_DICT = pytest.mark.skipif(not issubclass(Terms, dict), reason="Terms is a dict from PyTorch 2.7 on")


def scalar(value: float) -> Tensor:
    return torch.tensor(value, requires_grad=True)


def two_terms() -> Terms:
    """0.5 * 3 + 2 * 7 = 15.5, of two losses that share a name."""
    one, two = Terms.summed("kd", distillation=scalar(3.0)), Terms.summed("md", distillation=scalar(7.0))
    return Terms.weighted((0.5, one), (2.0, two))
