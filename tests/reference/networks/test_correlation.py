import numpy as np
import pytest
import torch

from mmdistill.reference.networks.correlation import correlate, correlate_transposed, score_size


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
