from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmdistill.correlation import correlate, correlate_transposed, score_size


def by_hand(features: np.ndarray, filters: np.ndarray) -> np.ndarray:
    frames, sequences, _, height, width = features.shape
    rows, columns = filters.shape[-2:]
    padded = np.pad(features, [(0, 0)] * 3 + [(rows // 2, rows // 2), (columns // 2, columns // 2)])
    out = np.zeros((frames, sequences, *score_size((height, width), (rows, columns))))
    for y in range(out.shape[2]):
        for x in range(out.shape[3]):
            window = padded[..., y : y + rows, x : x + columns]
            out[:, :, y, x] = np.einsum("nschw,schw->ns", window, filters)
    return out


CASES = [((18, 18), (4, 4)), ((7, 9), (3, 3)), ((5, 6), (1, 1)), ((6, 5), (4, 2)), ((8, 8), (5, 3))]


@pytest.mark.parametrize(("size", "filter_size"), CASES)
def test_scores_agree_with_a_sliding_window(size: tuple[int, int], filter_size: tuple[int, int]) -> None:
    features = torch.randn(3, 2, 4, *size, dtype=torch.float64)
    filters = torch.randn(2, 4, *filter_size, dtype=torch.float64)
    np.testing.assert_allclose(
        correlate(features, filters).numpy(), by_hand(features.numpy(), filters.numpy()), atol=1e-10
    )


@pytest.mark.parametrize(("size", "filter_size"), CASES)
def test_the_transposed_operation_is_the_adjoint(size: tuple[int, int], filter_size: tuple[int, int]) -> None:
    features = torch.randn(3, 2, 4, *size, dtype=torch.float64)
    filters = torch.randn(2, 4, *filter_size, dtype=torch.float64)
    scores = correlate(features, filters)
    residuals = torch.randn_like(scores)
    left = (scores * residuals).sum()
    right = (filters * correlate_transposed(features, residuals, filter_size)).sum()
    torch.testing.assert_close(left, right)


@pytest.mark.parametrize(("size", "filter_size"), CASES)
def test_iterates_are_scored_as_each_would_be_alone(size: tuple[int, int], filter_size: tuple[int, int]) -> None:
    features = torch.randn(3, 2, 4, *size, dtype=torch.float64)
    iterates = torch.randn(5, 2, 4, *filter_size, dtype=torch.float64)
    expected = np.stack([by_hand(features.numpy(), filters.numpy()) for filters in iterates])
    np.testing.assert_allclose(correlate(features, iterates).numpy(), expected, atol=1e-10)


class Made(TorchDispatchMode):
    """Remembers the sizes of the tensors that operations make; views of what is there already are left out."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given, self.sizes, self.products = given.data_ptr(), [0], 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.data_ptr() != self.given:
            self.sizes.append(made.numel())
        self.products += "mm" in str(operation)
        return made


def test_all_iterates_take_one_product_and_no_copy_of_the_features() -> None:
    features, iterates = torch.randn(2, 3, 64, 6, 7), torch.randn(5, 3, 64, 2, 2)
    with Made(features) as made:
        correlate(features, iterates)
    assert made.products == 1
    assert max(made.sizes) < features.numel()
