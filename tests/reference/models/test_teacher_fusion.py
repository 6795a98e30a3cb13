import pytest
import torch

from mmdistill import Pair, ShapeError
from mmdistill.reference.models.teacher_fusion import TeacherFusion


@pytest.mark.parametrize(("channels", "total"), [((512, 1024), 12.356e6), ((128, 256), 6.25e6)])
def test_parameter_totals_equal_the_paper_within_half_a_percent(channels: tuple[int, int], total: float) -> None:
    with torch.device("meta"):
        blocks = [TeacherFusion(width) for width in channels]
    count = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    assert count == pytest.approx(total, rel=0.005)


def test_every_parameter_and_both_modalities_affect_the_output() -> None:
    block = TeacherFusion(6, width=8)
    rgb, tir = torch.randn(2, 3, 6, 5, 7).requires_grad_().unbind()
    rgb.retain_grad()
    tir.retain_grad()
    fused = block(Pair(rgb, tir))
    assert fused.shape == (3, 6, 5, 7)
    fused.square().sum().backward()
    for value in [rgb, tir, *block.parameters()]:
        assert value.grad is not None
        assert value.grad.abs().sum() > 0


def test_unequal_modalities_are_refused() -> None:
    with pytest.raises(ShapeError, match="TeacherFusion: tir: height: expected 5 as rgb, got 4"):
        TeacherFusion(6, width=8)(Pair(torch.zeros(1, 6, 5, 5), torch.zeros(1, 6, 4, 5)))
