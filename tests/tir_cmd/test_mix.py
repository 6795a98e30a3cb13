import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmdistill import Pair, ShapeError
from mmdistill.tir_cmd import mix


def numbered(*shape: int) -> Pair[Tensor]:
    """RGB's values are positive, TIR's the same below 0."""
    values = torch.arange(1, torch.Size(shape).numel() + 1).reshape(shape)
    return Pair(values, -values)


@given(st.integers(1, 9))
def test_the_two_branches_see_each_sample_once_in_either_modality(samples: int) -> None:
    pair = numbered(samples, 2)
    reference, test = mix(pair, "rgb-tir"), mix(pair, "tir-rgb")
    assert torch.equal(reference, -test)
    assert torch.equal(reference.abs(), pair.rgb)
    first_half = -(-samples // 2)
    assert (reference > 0).all(dim=1).tolist() == [number < first_half for number in range(samples)]


def test_one_modality_is_that_member() -> None:
    pair = numbered(3, 2)
    assert mix(pair, "rgb") is pair.rgb
    assert mix(pair, "tir") is pair.tir
    assert mix(pair, "tir", layout="side-by-side") is pair.tir


def test_any_axis_may_be_the_batch() -> None:
    pair = numbered(2, 3, 4)
    mixed = mix(pair, "tir-rgb", dim=1)
    assert torch.equal(mixed[:, :2], pair.tir[:, :2])
    assert torch.equal(mixed[:, 2:], pair.rgb[:, 2:])
    assert torch.equal(mix(pair, "tir-rgb", dim=-2), mixed)


def test_side_by_side_joins_the_width() -> None:
    pair = numbered(2, 3, 4, 5)
    mixed = mix(pair, "tir-rgb", layout="side-by-side")
    assert mixed.shape == (2, 3, 4, 10)
    assert torch.equal(mixed[..., :5], pair.tir)
    assert torch.equal(mixed[..., 5:], pair.rgb)


def test_a_gradient_goes_to_what_was_shown() -> None:
    pair = Pair(*(torch.zeros(4, 2, requires_grad=True) for _ in range(2)))
    mix(pair, "rgb-tir").sum().backward()
    assert pair.rgb.grad is not None
    assert pair.tir.grad is not None
    assert pair.rgb.grad[:, 0].tolist() == [1, 1, 0, 0]
    assert pair.tir.grad[:, 0].tolist() == [0, 0, 1, 1]


def test_what_cannot_be_mixed_is_named() -> None:
    pair = numbered(3, 2)
    with pytest.raises(ShapeError, match="mix: tir: axis 1: expected 2 as rgb, got 1"):
        mix(Pair(pair.rgb, pair.tir[:, :1]), "rgb-tir")
    with pytest.raises(ShapeError, match="mix: rgb: axis 0: expected at least 1, got 0"):
        mix(Pair(pair.rgb[:0], pair.tir[:0]), "rgb")
    with pytest.raises(ValueError, match="modalities: expected one of rgb, tir, rgb-tir, tir-rgb, got 'both'"):
        mix(pair, "both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layout: expected one of halves, side-by-side, got 'stacked'"):
        mix(pair, "rgb", layout="stacked")  # type: ignore[arg-type]
