import pytest
import torch
from helpers import pyramids

from mmdistill import Pair, ShapeError
from mmdistill.pair import stacked


def test_stacking_puts_rgb_first_and_chunking_takes_it_apart() -> None:
    pair = pyramids((2, 3, 4))
    levels = stacked(pair)
    assert [tuple(level.shape) for level in levels] == [(4, 2, 16, 24), (4, 3, 8, 12), (4, 4, 4, 6)]
    for level, rgb, tir in zip(levels, *pair, strict=True):
        apart = Pair(*level.chunk(2))
        assert torch.equal(apart.rgb, rgb)
        assert torch.equal(apart.tir, tir)


def test_gradient_reaches_both_modalities() -> None:
    pair = pyramids((2, 3), requires_grad=True)
    sum((level * level).sum() for level in stacked(pair)).backward()  # type: ignore[union-attr]
    for x in [*pair.rgb, *pair.tir]:
        assert x.grad is not None
        torch.testing.assert_close(x.grad, 2 * x.detach())


def test_wrong_inputs_are_named() -> None:
    rgb, tir = pyramids((2, 3))
    with pytest.raises(ShapeError, match="stacked: tir: levels: expected 2, got 1"):
        stacked(Pair(rgb, tir[:1]))
    with pytest.raises(ShapeError, match="stacked: tir level 2: batch: expected 2 as rgb, got 1"):
        stacked(Pair(rgb, [tir[0], tir[1][:1]]))
    with pytest.raises(ShapeError, match="stacked: rgb: type: expected a sequence of maps"):
        stacked(Pair(rgb[0], tir[0]))
    with pytest.raises(ShapeError, match=r"stacked: input: type: expected Pair\(rgb, tir\), got list"):
        stacked([rgb, tir])  # type: ignore[arg-type]
