from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmdistill.reference.models.iou_net import IoUNet, Modulation
from mmdistill.reference.models.pooled_iou import PooledIoU
from mmdistill.reference.tracking import box_refinement as module
from mmdistill.reference.tracking.box_refinement import gradient_ascent, initial_proposals, mean_of_best, refine
from mmdistill.reference.tracking.settings import RefinementSettings
from mmdistill.toolkit.boxes import centers, intersection_over_union

SETTINGS = RefinementSettings()
TRUTH = torch.tensor([[50.0, 40.0, 30.0, 20.0], [20.0, 60.0, 16.0, 40.0]])


def overlap(boxes: Tensor) -> Tensor:
    """1 at the truth, falling with the squared difference; a step of length 1 then takes off about half of it."""
    return 1 - 0.25 * ((boxes - TRUTH[:, None]).square() / TRUTH[:, None, [2, 3, 2, 3]]).sum(dim=-1)


class FromFunction:
    """An IoU function from one function of boxes, which returns the IoU and its gradient."""

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self.function = function

    def __call__(self, boxes: Tensor) -> tuple[Tensor, Tensor]:
        return self.function(boxes)

    def gradient(self, boxes: Tensor) -> Tensor:
        return self.function(boxes)[1]


@FromFunction
def quadratic(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """The overlap and its gradient."""
    truth = TRUTH[:, None]
    return overlap(boxes), -0.5 * (boxes - truth) / truth[..., [2, 3, 2, 3]]


def jitter(sequences: int, random_boxes: int = 9) -> Tensor:
    """Jitter for the box itself, and for random boxes."""
    limits = torch.tensor([SETTINGS.center_jitter] * 2 + [SETTINGS.size_jitter] * 2)
    drawn = (torch.rand(sequences, random_boxes, 4) * 2 - 1) * limits
    return torch.cat([torch.zeros(sequences, 1, 4), drawn], dim=1)


def test_boxes_climb_to_the_truth() -> None:
    boxes = TRUTH + torch.tensor([[5.0, -4.0, -4.0, 3.0], [-3.0, 6.0, 2.0, -6.0]])
    result = gradient_ascent(quadratic, initial_proposals(boxes, jitter(2), SETTINGS), SETTINGS)
    refined = mean_of_best(result.boxes, result.iou, boxes, SETTINGS)
    before, after = (intersection_over_union(some, TRUTH) for some in (boxes, refined))
    assert (before < 0.7).all()
    assert (after > 0.95).all()


def test_one_step_by_hand() -> None:
    box = np.array([44.0, 43.0, 24.0, 26.0])
    truth = TRUTH[0].numpy().astype(float)
    gradient = -0.5 * (box - truth) / truth[[2, 3, 2, 3]]
    boxes = torch.from_numpy(np.stack([box, box])[:, None]).float()
    result = gradient_ascent(quadratic, boxes, RefinementSettings(steps=1, step_length=2.0))
    np.testing.assert_allclose(result.boxes[0, 0], box + 2 * gradient * box[[2, 3, 2, 3]], rtol=1e-6)
    np.testing.assert_allclose(result.iou, overlap(boxes))
    assert torch.equal(result.evaluated, boxes)


def test_iou_is_the_one_before_the_last_step() -> None:
    boxes = TRUTH[:, None] + 4 * torch.randn(2, 5, 4)
    four = gradient_ascent(quadratic, boxes, RefinementSettings(steps=4)).boxes
    five, iou, evaluated = gradient_ascent(quadratic, boxes, RefinementSettings(steps=5))
    torch.testing.assert_close(iou, overlap(four))
    assert (overlap(five) > iou).all()
    assert torch.equal(evaluated[:, :5], boxes)
    assert torch.equal(evaluated[:, 20:], four)


def test_sides_are_at_least_one_pixel() -> None:
    @FromFunction
    def thinner(boxes: Tensor) -> tuple[Tensor, Tensor]:
        return -boxes[..., 2], torch.tensor([0.0, 0.0, -1.0, 0.0]).expand_as(boxes)

    result = gradient_ascent(thinner, torch.tensor([[[0.0, 0.0, 8.0, 5.0]]]), SETTINGS)
    assert result.boxes[0, 0].tolist() == [0, 0, 1, 5]


def test_start_boxes() -> None:
    boxes = torch.tensor([[50.0, 40.0, 36.0, 16.0], [0.0, 0.0, 5.0, 80.0]])
    start = initial_proposals(boxes, jitter(2, 4000), SETTINGS)
    assert start.shape == (2, 4001, 4)
    torch.testing.assert_close(start[:, 0], boxes)

    # The first: the root of its area is 24, so its center moves by up to 1.2, its sides change by up to 6.
    offset = centers(start[0]) - centers(boxes[0])
    np.testing.assert_allclose([offset.min(), offset.max()], [-1.2, 1.2], atol=0.01)
    np.testing.assert_allclose(offset[1:].std(axis=0), 2.4 / np.sqrt(12), rtol=0.03)
    change = start[0, :, 2:] - boxes[0, 2:]
    np.testing.assert_allclose([change.min(), change.max()], [-6, 6], atol=0.05)
    # The second: its width changes by up to 5, but not below a third of 5.
    assert float(start[1, :, 2].min()) == pytest.approx(5 / 3)
    assert float(start[1, :, 2].max()) == pytest.approx(10, abs=0.05)


def test_the_best_three_are_averaged() -> None:
    boxes = torch.tensor([[8.0, 0, 10, 10], [1, 2, 10, 10], [9, 9, 10, 10], [3, 2, 16, 10], [5, 5, 10, 22]])[None]
    iou = torch.tensor([[-0.5, 0.9, 0.0, 0.7, 0.8]])
    assert mean_of_best(boxes, iou, boxes[:, 0], SETTINGS).tolist() == [[3, 3, 12, 14]]


def test_boxes_of_no_sound_shape_are_dropped() -> None:
    thin, flat, lost = [0.0, 0, 10, 61], [0.0, 0, 61, 10], [0.0, torch.nan, 10, 10]
    boxes = torch.tensor([[thin, flat, [2, 4, 10, 60], [4, 4, 10, 10]], [thin, flat, lost, thin]])
    iou = torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.7, 0.6]])
    fallback = torch.tensor([[1.0, 1, 1, 1], [7, 7, 7, 7]])
    assert mean_of_best(boxes, iou, fallback, SETTINGS).tolist() == [[3, 4, 10, 35], [7, 7, 7, 7]]


def network(gain: float = 1.0) -> IoUNet:
    """An IoU-Net; its gain says how far a step goes."""
    torch.manual_seed(0)
    iou_net = IoUNet((3, 4), hidden=8).eval()
    torch.nn.init.normal_(iou_net.predictor.weight, std=gain)
    return iou_net


def inputs(iou_net: IoUNet, sequences: int) -> tuple[Modulation, Tensor, Tensor]:
    level3, level4 = torch.randn(sequences, 3, 36, 36), torch.randn(sequences, 4, 18, 18)
    boxes = torch.tensor([[110.0, 120.0, 60.0, 50.0]]).repeat(sequences, 1)
    with torch.no_grad():
        return iou_net.modulate(level3, level4, boxes), level3, level4


def by_autograd(
    iou_net: IoUNet, modulation: Modulation, level3: Tensor, level4: Tensor, boxes: Tensor, drawn: Tensor
) -> Tensor:
    """Refinement with the whole map's features and autograd's gradient."""
    features = iou_net.features(level3, level4)

    @FromFunction
    def iou_and_gradient(some: Tensor) -> tuple[Tensor, Tensor]:
        leaf = some.detach().requires_grad_()
        iou = iou_net.predict(modulation, features, leaf)
        (gradient,) = torch.autograd.grad(iou.sum(), leaf, retain_graph=True)
        return iou.detach(), gradient

    result = gradient_ascent(iou_and_gradient, initial_proposals(boxes, drawn, SETTINGS), SETTINGS)
    return mean_of_best(result.boxes, result.iou, boxes, SETTINGS)


@given(
    st.lists(st.tuples(*[st.floats(-40, 280)] * 2, *[st.floats(8, 120)] * 2), min_size=2, max_size=2),
    st.sampled_from([0.05, 0.5, 5.0]),  # boxes stay, leave the first window, or fly off
)
@settings(max_examples=15, deadline=None)
def test_it_is_the_refinement_of_the_whole_map(values: list[tuple[float, ...]], gain: float) -> None:
    iou_net = network(gain).double()
    modulation, level3, level4 = inputs(iou_net.float(), 2)
    iou_net = iou_net.double()
    modulation = Modulation(*(vector.double() for vector in modulation))
    boxes, drawn = torch.tensor(values, dtype=torch.float64), jitter(2).double()
    arguments = (modulation, level3.double(), level4.double(), boxes, drawn)
    expected = by_autograd(iou_net, *arguments)
    for windowed in (False, True):
        refined = refine(iou_net, PooledIoU(iou_net), *arguments, SETTINGS, windowed=windowed)
        torch.testing.assert_close(refined, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("gain", "expected"), [(0.02, [8.0]), (0.4, [8.0, 32.0]), (40.0, [8.0, 32.0, None])])
def test_a_wider_window_is_taken_where_boxes_leave(
    gain: float, expected: list[float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    margins: list[float | None] = []
    around, whole = module.level_windows, module.pooled_iou
    monkeypatch.setattr(
        module, "level_windows", lambda boxes, margin, levels: margins.append(margin) or around(boxes, margin, levels)
    )
    monkeypatch.setattr(module, "pooled_iou", lambda *arguments: margins.append(None) or whole(*arguments))
    iou_net = network(gain)
    pooled = PooledIoU(iou_net)
    arguments = (*inputs(iou_net, 1), torch.tensor([[110.0, 120.0, 60.0, 50.0]]), jitter(1))
    refined = refine(iou_net, pooled, *arguments, SETTINGS, windowed=True)
    assert margins == expected
    assert not refined.requires_grad
    torch.testing.assert_close(refined, by_autograd(iou_net, *arguments), rtol=1e-3, atol=1e-3)
    margins.clear()
    whole_map = refine(iou_net, pooled, *arguments, SETTINGS)
    assert margins == [None]
    torch.testing.assert_close(whole_map, refined, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("windowed", [False, True])
def test_sequences_do_not_see_each_other(windowed: bool) -> None:
    iou_net = network(0.05)
    pooled = PooledIoU(iou_net)
    modulation, level3, level4 = inputs(iou_net, 3)
    boxes = torch.tensor([[110.0, 120.0, 60.0, 50.0], [200.0, 10.0, 24.0, 80.0], [-10.0, 230.0, 50.0, 50.0]])
    drawn = jitter(3)
    batch = refine(iou_net, pooled, modulation, level3, level4, boxes, drawn, SETTINGS, windowed=windowed)
    for s in range(3):
        own = slice(s, s + 1)
        vectors = Modulation(*(vector[own] for vector in modulation))
        one = (vectors, level3[own], level4[own], boxes[own], drawn[own])
        alone = refine(iou_net, pooled, *one, SETTINGS, windowed=windowed)
        torch.testing.assert_close(batch[own], alone, rtol=1e-4, atol=1e-4)


def test_without_steps_the_start_remains() -> None:
    box = torch.tensor([[50.0, 40.0, 36.0, 16.0]])
    settings = RefinementSettings(random_boxes=0, steps=0)
    iou_net = network()
    for windowed in (False, True):
        arguments = (*inputs(iou_net, 1), box, jitter(1, 0))
        refined = refine(iou_net, PooledIoU(iou_net), *arguments, settings, windowed=windowed)
        torch.testing.assert_close(refined, box)
