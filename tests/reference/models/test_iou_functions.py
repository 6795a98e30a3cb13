import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill.reference.models.iou_net import IoUNet, Modulation
from mmdistill.reference.models.pooled_iou import PooledIoU, pooled_iou
from mmdistill.reference.models.windowed_iou import level_windows, windowed_iou, windows_contain

CROP = 256


def network(dtype: torch.dtype = torch.float64) -> IoUNet:
    torch.manual_seed(0)
    iou_net = IoUNet((3, 4), hidden=6).to(dtype)
    for module in iou_net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.normal_(module.bias, std=0.3)
    nn.init.normal_(iou_net.predictor.weight)
    return iou_net.eval()


def inputs(sequences: int, dtype: torch.dtype = torch.float64) -> tuple[Modulation, list[Tensor]]:
    levels = [torch.randn(sequences, channels, CROP // s, CROP // s, dtype=dtype) for channels, s in ((3, 8), (4, 16))]
    return Modulation(*(torch.rand(sequences, 6, 1, 1, dtype=dtype) + 0.5 for _ in range(2))), levels


def by_autograd(iou_net: IoUNet, modulation: Modulation, levels: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor]:
    boxes = boxes.clone().requires_grad_()
    iou = iou_net.predict(modulation, iou_net.features(*levels), boxes)
    (gradient,) = torch.autograd.grad(iou.sum(), boxes)
    return iou.detach(), gradient


edge = st.floats(-30, CROP)
side = st.floats(1, 90)
some_boxes = st.lists(st.tuples(edge, edge, side, side), min_size=6, max_size=6)


@given(some_boxes)
@settings(max_examples=60, deadline=None)
def test_iou_and_gradient_equal_autograd(values: list[tuple[float, ...]]) -> None:
    iou_net = network()
    modulation, levels = inputs(2)
    boxes = torch.tensor(values, dtype=torch.float64).view(2, 3, 4)
    expected = by_autograd(iou_net, modulation, levels, boxes)
    with torch.no_grad():
        pooled = pooled_iou(PooledIoU(iou_net), modulation, iou_net.features(*levels))
        torch.testing.assert_close(pooled(boxes), expected)
        assert torch.equal(pooled.gradient(boxes), pooled(boxes)[1])
        windows = level_windows(boxes, 4.0, levels)
        if windows is not None:
            assert windows_contain(windows, boxes, levels)
            windowed = windowed_iou(iou_net, modulation, levels, windows)
            torch.testing.assert_close(windowed(boxes), expected)
            assert torch.equal(windowed.gradient(boxes), windowed(boxes)[1])


@pytest.mark.parametrize("boxes", [[[30, 40, 28, 20], [34, 44, 20, 24]], [[-9, 70, 30, 14], [236, 235, 25, 40]]])
def test_a_window_gives_the_gradient_of_boxes_inside_and_partly_outside(boxes: list[list[float]]) -> None:
    iou_net = network()
    modulation, levels = inputs(2)
    asked = torch.tensor(boxes, dtype=torch.float64)[:, None] + torch.tensor([0.0, 1.3, -2.1])[:, None]
    windows = level_windows(asked, 4.0, levels)
    assert windows is not None
    moved = asked + torch.tensor([2.0, -3.0, 1.0, 2.0])  # still within the margin
    with torch.no_grad():
        iou, gradient = windowed_iou(iou_net, modulation, levels, windows)(moved)
    expected = by_autograd(iou_net, modulation, levels, moved)
    torch.testing.assert_close((iou, gradient), expected)
    assert gradient.abs().amin() > 0


def test_the_gradient_agrees_with_finite_differences() -> None:
    iou_net = network()
    modulation, levels = inputs(1)
    asked = torch.tensor([[[31.3, 40.7, 28.9, 21.1], [-7.3, 60.1, 30.3, 17.7]]], dtype=torch.float64)
    with torch.no_grad():
        iou_function = pooled_iou(PooledIoU(iou_net), modulation, iou_net.features(*levels))
        _, gradient = iou_function(asked)
        for axis in range(4):
            step = 1e-5 * torch.eye(4, dtype=torch.float64)[axis]
            difference = (iou_function(asked + step)[0] - iou_function(asked - step)[0]) / 2e-5
            torch.testing.assert_close(gradient[..., axis], difference, rtol=1e-5, atol=1e-8)


def test_sequences_are_independent() -> None:
    iou_net = network()
    modulation, levels = inputs(2)
    boxes = torch.tensor([[[20.0, 30, 30, 20]], [[206.0, 196, 20, 36]]], dtype=torch.float64)
    windows = level_windows(boxes, 8.0, levels)
    assert windows is not None
    with torch.no_grad():
        together = windowed_iou(iou_net, modulation, levels, windows)(boxes)
        for s in range(2):
            part = slice(s, s + 1)
            own = [level[part] for level in levels]
            near = level_windows(boxes[part], 8.0, own)
            assert near is not None
            alone = windowed_iou(iou_net, Modulation(*(v[part] for v in modulation)), own, near)(boxes[part])
            torch.testing.assert_close(tuple(value[part] for value in together), alone)
