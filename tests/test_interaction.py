import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill import CEM, SEM, Pair, ShapeError
from mmdistill.interaction import interact


def pair(height: int, width: int) -> Pair[torch.Tensor]:
    generator = torch.Generator().manual_seed(height * 31 + width)
    return Pair(*torch.randn(2, 3, 5, height, width, generator=generator, dtype=torch.float64))


@given(st.integers(1, 9), st.integers(1, 9))
def test_equations_one_and_two_hold_elementwise(height: int, width: int) -> None:
    rgb, tir = (member.numpy() for member in pair(height, width))
    specific, common = SEM()(pair(height, width)), CEM()(pair(height, width))
    assert (abs(specific.rgb.numpy() - (rgb * tir + rgb - tir)) < 1e-14).all()
    assert (abs(specific.tir.numpy() - (rgb * tir + tir - rgb)) < 1e-14).all()
    assert (abs(common.numpy() - (rgb * tir + rgb + tir)) < 1e-14).all()


def test_addition_is_one_map_for_both() -> None:
    members = pair(4, 6)
    added = interact("add", members)
    assert added.rgb is added.tir
    torch.testing.assert_close(added.rgb, members.rgb + members.tir)


@pytest.mark.parametrize("module", [SEM(), CEM()])
@pytest.mark.parametrize(
    ("rgb", "tir", "says"),
    [
        ((2, 3, 4, 4), (2, 3, 4, 5), "tir: width: expected 4 as rgb, got 5"),
        ((2, 64, 4, 4), (2, 1, 4, 4), "tir: channels: expected 64 as rgb, got 1"),
        ((3, 4, 4), (3, 4, 4), r"rgb: axes: expected 4 \(B, C, H, W\), got \(3, 4, 4\)"),
        ((0, 3, 4, 4), (0, 3, 4, 4), "rgb: batch: expected at least 1, got 0"),
    ],
)
def test_other_shapes_are_refused_never_broadcast(
    module: torch.nn.Module, rgb: tuple[int, ...], tir: tuple[int, ...], says: str
) -> None:
    with pytest.raises(ShapeError, match=says):
        module(Pair(torch.zeros(rgb), torch.zeros(tir)))
