from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
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


def gradient_by_hand(features: np.ndarray, residuals: np.ndarray, filter_size: tuple[int, int]) -> np.ndarray:
    sequences, channels = features.shape[1:3]
    rows, columns = filter_size
    padded = np.pad(features, [(0, 0)] * 3 + [(rows // 2, rows // 2), (columns // 2, columns // 2)])
    out = np.zeros((sequences, channels, rows, columns))
    for y in range(residuals.shape[2]):
        for x in range(residuals.shape[3]):
            window = padded[..., y : y + rows, x : x + columns]
            out += np.einsum("nschw,ns->schw", window, residuals[:, :, y, x])
    return out


CASES = [
    ((18, 18), (4, 4)),
    ((7, 9), (3, 3)),
    ((5, 6), (1, 1)),
    ((6, 5), (4, 2)),
    ((8, 8), (5, 3)),
    ((4, 7), (1, 4)),
    ((7, 4), (2, 5)),
    ((2, 3), (5, 6)),
    ((1, 1), (4, 4)),
]


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


@pytest.mark.parametrize(("size", "filter_size"), CASES)
def test_the_transposed_operation_agrees_with_a_sliding_window(
    size: tuple[int, int], filter_size: tuple[int, int]
) -> None:
    features = torch.randn(3, 2, 4, *size, dtype=torch.float64)
    residuals = torch.randn(3, 2, *score_size(size, filter_size), dtype=torch.float64)
    gradient = correlate_transposed(features, residuals, filter_size)
    expected = gradient_by_hand(features.numpy(), residuals.numpy(), filter_size)
    np.testing.assert_allclose(gradient.numpy(), expected, atol=1e-10)


@pytest.mark.parametrize(("size", "filter_size"), [((3, 4), (2, 3)), ((2, 2), (4, 4)), ((3, 2), (1, 2))])
def test_first_and_second_derivatives_agree_with_finite_differences(
    size: tuple[int, int], filter_size: tuple[int, int]
) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()

    features, iterates = draw(2, 2, 2, *size), draw(2, 2, 2, *filter_size)
    residuals = draw(2, 2, *score_size(size, filter_size))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(correlate, (features, iterates))
        assert check(correlate, (features, iterates[0].detach().requires_grad_()))
        assert check(lambda f, r: correlate_transposed(f, r, filter_size), (features, residuals))


class Both(nn.Module):
    def forward(self, features: Tensor, filters: Tensor, residuals: Tensor) -> tuple[Tensor, Tensor]:
        return correlate(features, filters), correlate_transposed(features, residuals, (4, 3))


@pytest.mark.parametrize("way", ["export", pytest.param("compile", marks=pytest.mark.slow)])
def test_a_graph_has_the_same_values_for_any_number_of_frames(way: str) -> None:
    module = Both()

    def inputs(frames: int) -> tuple[Tensor, ...]:
        return torch.randn(frames, 2, 3, 5, 6), torch.randn(2, 3, 4, 3), torch.randn(frames, 2, 6, 6)

    if way == "export":
        frames = torch.export.Dim("frames", min=1, max=100)
        shapes = ({0: frames}, {}, {0: frames})
        graph: Any = torch.export.export(module, inputs(3), dynamic_shapes=shapes, strict=True).module()
    else:
        graph = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    for count in (3, 5):
        given = inputs(count)
        torch.testing.assert_close(graph(*given), module(*given))


def test_no_operation_works_map_by_map_or_rounds_to_tf32() -> None:
    features, filters, residuals = torch.randn(3, 2, 4, 5, 6), torch.randn(2, 4, 4, 3), torch.randn(3, 2, 6, 6)
    with Made(features) as made:
        Both()(features.requires_grad_(), filters, residuals)[0].sum().backward()
    assert not [name for name in made.names if any(part in name for part in ("im2col", "col2im", "convolution"))]


class Made(TorchDispatchMode):
    """Remembers the sizes of the tensors that operations make; views of what is there already are left out."""

    def __init__(self, given: Tensor) -> None:
        super().__init__()
        self.given, self.sizes, self.products = given.data_ptr(), [0], 0
        self.names: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.data_ptr() != self.given:
            self.sizes.append(made.numel())
        self.products += "mm" in str(operation)
        self.names.append(str(operation))
        return made


def test_all_iterates_take_one_product_and_no_copy_of_the_features() -> None:
    features, iterates = torch.randn(2, 3, 64, 6, 7), torch.randn(5, 3, 64, 2, 2)
    with Made(features) as made:
        correlate(features, iterates)
    assert made.products == 1
    assert max(made.sizes) < features.numel()
