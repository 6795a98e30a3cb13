import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill.reference.models.bin_windows import Window, bin_windows, contains_boxes, window_features
from mmdistill.reference.models.iou_net import IoUNet
from mmdistill.reference.models.prroi_pool import bin_weights

MAP = (12, 10)  # columns and rows


def blocks() -> nn.Sequential:
    network = IoUNet((3, 2), hidden=4).double().eval()
    for module in network.test_level3.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):  # so that padding with zeros is not padding with the bias
            nn.init.uniform_(module.bias, 0.5, 1)
    return network.test_level3


@pytest.mark.parametrize("size", [(4, 4), (2, 6), (12, 10), (11, 1)])
def test_a_window_equals_the_whole_map(size: tuple[int, int]) -> None:
    convolutions, level = blocks(), torch.randn(3, 3, MAP[1], MAP[0], dtype=torch.float64)
    columns, rows = size
    right, bottom = MAP[0] - columns, MAP[1] - rows
    origin = torch.tensor([[0, 0], [right, bottom], [right // 2, bottom // 2]])
    with torch.no_grad():
        whole, got = convolutions(level), window_features(convolutions, level, Window(origin, size))
    assert got.shape == (3, 4, rows, columns)
    for sequence, (x, y) in enumerate(origin.tolist()):
        torch.testing.assert_close(got[sequence], whole[sequence, :, y : y + rows, x : x + columns])


edge = st.floats(-60, 160)
side = st.floats(1, 120)
some_boxes = st.lists(st.tuples(edge, edge, side, side), min_size=4, max_size=4)


def touched(boxes: Tensor, bins: int) -> list[Tensor]:
    """From the weights: columns and rows that each bin of each box touches, ``(S, K, bins, cells)``."""
    boxes = boxes / 8
    return [bin_weights(boxes[..., a], boxes[..., a + 2], bins, MAP[a]) != 0 for a in (0, 1)]


@given(some_boxes, st.sampled_from([1, 3, 5]), st.sampled_from([0.0, 8.0]))
@settings(max_examples=100, deadline=None)
def test_windows_hold_all_cells_with_a_weight(values: list[tuple[float, ...]], bins: int, margin: float) -> None:
    boxes = torch.tensor(values, dtype=torch.float64).view(2, 2, 4)
    windows = bin_windows(boxes, margin, bins, 8.0, MAP)
    if windows is None:
        return
    assert contains_boxes(windows, boxes, 8.0, MAP)
    for axis, weights in enumerate(touched(boxes, bins)):
        first, size = windows.origin[:, axis, :, None], windows.size[axis]
        cells = torch.arange(MAP[axis])
        held = (cells >= first) & (cells < first + size)
        assert not (weights & ~held[:, None]).any()
        assert (first >= 0).all()
        assert (first + size <= MAP[axis]).all()
        window, length = windows.hull.origin[:, axis, None, None], windows.hull.size[axis]
        assert (first >= window).all()
        assert (first + size <= window + length).all()
        assert (window + length <= MAP[axis]).all()


def test_boxes_outside_their_windows_are_detected() -> None:
    boxes = torch.tensor([[[24.0, 24, 16, 16]], [[40.0, 32, 16, 16]]])
    windows = bin_windows(boxes, 4.0, 3, 8.0, (30, 30))
    assert windows is not None
    assert contains_boxes(windows, boxes + torch.tensor([3.0, -3, 0, 0]), 8.0, (30, 30))
    for sequence in range(2):
        moved = boxes.clone()
        moved[sequence, 0, 0] += 60
        assert not contains_boxes(windows, moved, 8.0, (30, 30))
    assert not contains_boxes(windows, boxes * torch.tensor([1, 1, 4, 4]), 8.0, (30, 30))


def test_large_boxes_have_no_window() -> None:
    assert bin_windows(torch.tensor([[[8.0, 8, 70, 60]]]), 8.0, 5, 8.0, MAP) is None
    assert bin_windows(torch.tensor([[[8.0, 8, 70, 60]]]), 8.0, 5, 8.0, (36, 36)) is not None
