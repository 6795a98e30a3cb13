"""KD, FitNets and Knowledge Review beside NumPy in float64, written from the papers, at sizes of real networks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mmdistill.losses import FitNetsLoss, KDLoss, ReviewKDLoss

Array = NDArray[np.float64]
STUDENT, TEACHER = (16, 32, 64, 128), (64, 128, 256, 512)
SIZES = ((28, 36), (14, 18), (7, 9), (4, 5))
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
WITHIN = 1e-6


def wide(values: Tensor) -> Array:
    return values.detach().double().numpy()


def levels(channels: tuple[int, ...], dtype: torch.dtype) -> list[Tensor]:
    return [torch.randn(3, c, *size, dtype=dtype) for c, size in zip(channels, SIZES, strict=True)]


def kd(student: Array, teacher: Array, temperature: float) -> float:
    """Cross-entropy of the softened scores less the teacher's entropy, times the squared temperature."""

    def log_shares(scores: Array) -> Array:
        scaled = scores / temperature
        scaled = scaled - scaled.max(axis=1, keepdims=True)
        return scaled - np.log(np.exp(scaled).sum(axis=1, keepdims=True))

    p = np.exp(log_shares(teacher))
    cross_entropy, entropy = (-(p * log_shares(scores)).sum(axis=1) for scores in (student, teacher))
    return float(temperature**2 * np.mean(cross_entropy - entropy))


def pointwise(x: Array, convolution: nn.Conv2d) -> Array:
    """A 1x1 convolution as a product of matrices at each position."""
    result = np.tensordot(wide(convolution.weight)[:, :, 0, 0], x, axes=(1, 1)).swapaxes(0, 1)
    return result if convolution.bias is None else result + wide(convolution.bias)[:, None, None]


def three_by_three(x: Array, convolution: nn.Conv2d) -> Array:
    """A 3x3 convolution with a border of zeros: the product of all windows with all kernels."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.tensordot(windows, wide(convolution.weight), axes=((1, 4, 5), (1, 2, 3))).transpose(0, 3, 1, 2)


def normalized(x: Array, norm: nn.BatchNorm2d, train: bool) -> Array:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean = x.mean(axis=(0, 2, 3)) if train else wide(norm.running_mean)
    variance = x.var(axis=(0, 2, 3)) if train else wide(norm.running_var)
    scale, shift = wide(norm.weight), wide(norm.bias)
    columns = [values[:, None, None] for values in (mean, variance, scale, shift)]
    return (x - columns[0]) / np.sqrt(columns[1] + norm.eps) * columns[2] + columns[3]


def aligned_levels(features: list[Array], chain: nn.Module, train: bool) -> list[Array]:
    """Attention based fusion from the deepest level to the shallowest."""
    results: list[Array] = []
    carried: Array | None = None
    for abf, x in zip(reversed(chain.levels), reversed(features), strict=True):  # type: ignore[arg-type]
        own = normalized(pointwise(x, abf.reduce[0]), abf.reduce[1], train)
        if carried is not None:
            rows, columns = (np.arange(n) * m // n for n, m in zip(own.shape[2:], carried.shape[2:], strict=True))
            deeper = carried[:, :, rows][:, :, :, columns]
            weights = 1 / (1 + np.exp(-pointwise(np.concatenate([own, deeper], axis=1), abf.attention)))
            own = weights[:, :1] * own + weights[:, 1:] * deeper
        results.append(normalized(three_by_three(own, abf.expand[0]), abf.expand[1], train))
        carried = own
    return results[::-1]


def pooled(x: Array, size: int) -> Array:
    """Means over ``size`` by ``size`` cells; cell i of n goes from floor(i L / n) to ceil((i + 1) L / n)."""
    for axis in (2, 3):
        length = x.shape[axis]
        n = min(size, length)
        cells = [np.arange(i * length // n, -(-(i + 1) * length // n)) for i in range(n)]
        x = np.stack([x.take(cell, axis=axis).mean(axis=axis) for cell in cells], axis=axis)
    return x


def context_loss(student: Array, teacher: Array) -> float:
    """The maps' mean squared error, then those pooled to 4x4, 2x2 and 1x1, of half the weight each."""
    errors, weights = [np.mean((student - teacher) ** 2)], [1.0]
    for size in (4, 2, 1):
        if size >= max(student.shape[2:]):
            continue
        errors.append(np.mean((pooled(student, size) - pooled(teacher, size)) ** 2))
        weights.append(weights[-1] / 2)
    return float(np.dot(errors, weights) / np.sum(weights))


@DTYPES
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_of_a_thousand_classes(temperature: float, dtype: torch.dtype) -> None:
    student, teacher = 3 * torch.randn(2, 32, 1000, dtype=dtype)
    found = KDLoss(temperature=temperature)(student, teacher).total.item()
    assert found == pytest.approx(kd(wide(student), wide(teacher), temperature), rel=WITHIN)


@DTYPES
def test_kd_of_response_maps(dtype: torch.dtype) -> None:
    student, teacher = torch.rand(2, 10, 3, 22, 22, dtype=dtype)
    found = KDLoss(temperature=0.1, over="response")(student, teacher).total.item()
    assert found == pytest.approx(kd(*(wide(x).reshape(30, 484) for x in (student, teacher)), 0.1), rel=WITHIN)


@DTYPES
def test_fitnets_of_four_levels(dtype: torch.dtype) -> None:
    loss, student, teacher = FitNetsLoss(STUDENT, TEACHER).to(dtype), levels(STUDENT, dtype), levels(TEACHER, dtype)
    expected = sum(
        np.mean((pointwise(wide(x), regressor) - wide(y)) ** 2)  # type: ignore[arg-type]
        for regressor, x, y in zip(loss.regressors, student, teacher, strict=True)
    )
    assert loss(student, teacher).total.item() == pytest.approx(expected, rel=WITHIN)


@DTYPES
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_knowledge_review_of_four_levels(train: bool, dtype: torch.dtype) -> None:
    loss = ReviewKDLoss(STUDENT, TEACHER, mid_channels=32).to(dtype).train(train)
    for module in loss.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            with torch.no_grad():
                for values in (module.running_mean, module.bias):
                    values.normal_()
                for values in (module.running_var, module.weight):
                    values.uniform_(0.5, 2)
    student, teacher = levels(STUDENT, dtype), levels(TEACHER, dtype)
    aligned = aligned_levels([wide(x) for x in student], loss.chain, train)
    expected = sum(context_loss(x, wide(y)) for x, y in zip(aligned, teacher, strict=True))
    assert loss(student, teacher).total.item() == pytest.approx(expected, rel=WITHIN)
