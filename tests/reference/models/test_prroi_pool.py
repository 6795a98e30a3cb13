import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.reference.models.prroi_pool import bin_weights, precise_roi_pool


def bilinear(features: np.ndarray, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The interpolated map (C, len(y), len(x)), zero beyond the outer cells."""
    height, width = features.shape[1:]
    rows = np.maximum(1 - np.abs(y[:, None] - np.arange(height)), 0)
    columns = np.maximum(1 - np.abs(x[:, None] - np.arange(width)), 0)
    return np.einsum("yh,chw,xw->cyx", rows, features, columns)


def by_sampling(features: np.ndarray, box: np.ndarray, size: int, samples: int = 400) -> np.ndarray:
    """Midpoint integration on a fine grid, in cells."""
    x0, y0, w, h = box
    offsets = (np.arange(size * samples) + 0.5) / (size * samples)
    values = bilinear(features, y0 + h * offsets, x0 + w * offsets)
    return values.reshape(len(features), size, samples, size, samples).mean(axis=(2, 4))


@pytest.mark.parametrize("size", [1, 3, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stride", [pytest.param(1.0, marks=pytest.mark.slow), 8.0])
def test_pooling_is_the_integral_of_the_interpolated_map(size: int, stride: float) -> None:
    generator = np.random.default_rng(size)
    features = generator.normal(size=(2, 3, 9, 12))
    boxes = np.array([[[1.3, 2.1, 5.7, 3.2], [0.0, 0.0, 1.0, 1.0]], [[-2.5, 3.0, 4.0, 9.0], [10.2, 7.7, 6.0, 5.0]]])
    pooled = precise_roi_pool(torch.as_tensor(features), torch.as_tensor(boxes * stride), size, stride).numpy()
    assert pooled.shape == (2, 2, 3, size, size)
    for image in range(2):
        for box in range(2):
            expected = by_sampling(features[image], boxes[image, box], size)
            np.testing.assert_allclose(pooled[image, box], expected, atol=2e-5)


def test_gradients_in_features_and_boxes_are_right() -> None:
    features = torch.randn(2, 2, 5, 6, dtype=torch.float64, requires_grad=True)
    # Away from whole cells, where the second derivative jumps and finite differences are inexact.
    boxes = torch.tensor([[[0.83, 1.21, 2.9, 2.3]], [[-1.4, 0.3, 4.1, 6.6]]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, b: precise_roi_pool(f, b, 3, 1.0), (features, boxes))


@given(st.floats(0, 5), st.floats(0, 5), st.floats(0.1, 5), st.floats(0.1, 5), st.integers(1, 6), st.floats(-3, 3))
@settings(max_examples=50, deadline=None)
def test_a_constant_map_pools_to_its_constant(x: float, y: float, w: float, h: float, size: int, value: float) -> None:
    features = torch.full((1, 2, 11, 12), value, dtype=torch.float64)
    box = torch.tensor([[[x, y, w, h]]], dtype=torch.float64)
    pooled = precise_roi_pool(features, box, size, 1.0)
    torch.testing.assert_close(pooled, torch.full_like(pooled, value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_without_area_gives_zeros_and_finite_gradients(dtype: torch.dtype) -> None:
    features = torch.randn(1, 2, 4, 4, dtype=dtype, requires_grad=True)
    pooled = precise_roi_pool(features, torch.tensor([[[1.0, 1.0, 0.0, 2.0]]], dtype=dtype), 3, 1.0)
    assert (pooled == 0).all()
    pooled.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_half_precision_maps_keep_their_type() -> None:
    pooled = precise_roi_pool(torch.ones(1, 2, 8, 8, dtype=torch.bfloat16), torch.tensor([[[1.0, 1, 3, 3]]]), 2, 1.0)
    assert pooled.dtype == torch.bfloat16
    torch.testing.assert_close(pooled.float(), torch.ones(1, 1, 2, 2, 2), rtol=0.02, atol=0)


def test_weights_of_a_bin_inside_sum_to_one() -> None:
    shares = bin_weights(torch.tensor([1.2]), torch.tensor([4.4]), 5, 9)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(1, 5))
