import numpy as np
import pytest
import torch
from torch import Tensor

from mmdistill.reference.data.boxes import centres, intersection_over_union
from mmdistill.reference.tracking.refinement import best, climb, refine, start_boxes
from mmdistill.reference.tracking.settings import RefinementSettings

SETTINGS = RefinementSettings()
TRUTH = torch.tensor([[50.0, 40.0, 30.0, 20.0], [20.0, 60.0, 16.0, 40.0]])


def quadratic(boxes: Tensor) -> Tensor:
    """1 at the truth, falling with the squared difference; a step of length 1 then takes off about half of it."""
    return 1 - 0.25 * ((boxes - TRUTH[:, None]).square() / TRUTH[:, None, [2, 3, 2, 3]]).sum(dim=-1)


def test_boxes_climb_to_the_truth() -> None:
    start = TRUTH + torch.tensor([[5.0, -4.0, -4.0, 3.0], [-3.0, 6.0, 2.0, -6.0]])
    with torch.no_grad():  # as the tracker calls it
        refined = refine(quadratic, start, np.random.default_rng(0), SETTINGS)
    before, after = (intersection_over_union(boxes, TRUTH) for boxes in (start, refined))
    assert (before < 0.7).all()
    assert (after > 0.95).all()
    assert not refined.requires_grad


def test_one_step_by_hand() -> None:
    box = np.array([44.0, 43.0, 24.0, 26.0])
    truth = TRUTH[0].numpy().astype(float)
    gradient = -0.5 * (box - truth) / truth[[2, 3, 2, 3]]
    boxes = torch.from_numpy(np.stack([box, box])[:, None]).float()
    climbed, iou = climb(quadratic, boxes, RefinementSettings(steps=1, step_length=2.0))
    np.testing.assert_allclose(climbed[0, 0], box + 2 * gradient * box[[2, 3, 2, 3]], rtol=1e-6)
    np.testing.assert_allclose(iou, quadratic(boxes))


def test_iou_is_the_one_before_the_last_step() -> None:
    boxes = TRUTH[:, None] + 4 * torch.randn(2, 5, 4)
    four, _ = climb(quadratic, boxes, RefinementSettings(steps=4))
    five, iou = climb(quadratic, boxes, RefinementSettings(steps=5))
    torch.testing.assert_close(iou, quadratic(four))
    assert (quadratic(five) > iou).all()


def test_sides_are_at_least_one_pixel() -> None:
    def thinner(boxes: Tensor) -> Tensor:
        return -boxes[..., 2]

    climbed, _ = climb(thinner, torch.tensor([[[0.0, 0.0, 8.0, 5.0]]]), SETTINGS)
    assert climbed[0, 0].tolist() == [0, 0, 1, 5]


def test_start_boxes() -> None:
    boxes = torch.tensor([[50.0, 40.0, 36.0, 16.0], [0.0, 0.0, 5.0, 80.0]])
    start = start_boxes(boxes, np.random.default_rng(0), RefinementSettings(random_boxes=4000))
    assert start.shape == (2, 4001, 4)
    torch.testing.assert_close(start[:, 0], boxes)

    # The first: the root of its area is 24, so its centre moves by up to 1.2, its sides change by up to 6.
    offset = centres(start[0]) - centres(boxes[0])
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
    assert best(boxes, iou, boxes[:, 0], SETTINGS).tolist() == [[3, 3, 12, 14]]


def test_boxes_of_no_sound_shape_are_dropped() -> None:
    thin, flat, lost = [0.0, 0, 10, 61], [0.0, 0, 61, 10], [0.0, torch.nan, 10, 10]
    boxes = torch.tensor([[thin, flat, [2, 4, 10, 60], [4, 4, 10, 10]], [thin, flat, lost, thin]])
    iou = torch.tensor([[0.9, 0.8, 0.1, 0.2], [0.9, 0.8, 0.7, 0.6]])
    otherwise = torch.tensor([[1.0, 1, 1, 1], [7, 7, 7, 7]])
    assert best(boxes, iou, otherwise, SETTINGS).tolist() == [[3, 4, 10, 35], [7, 7, 7, 7]]


def test_without_steps_the_start_remains() -> None:
    box = torch.tensor([[50.0, 40.0, 36.0, 16.0]])
    settings = RefinementSettings(random_boxes=0, steps=0)
    torch.testing.assert_close(refine(quadratic, box, np.random.default_rng(0), settings), box)
