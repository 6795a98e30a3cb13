"""DiMP's classifier: score-map geometry, filter initializer and filter optimizer."""

import itertools
import math

import numpy as np
import pytest
import torch
from helpers import GOLDEN
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.correlation import correlate
from mmdistill.reference.importing.published import rename_tensors
from mmdistill.reference.models.dimp_classifier import (
    DistanceFunction,
    FilterInitializer,
    FilterOptimizer,
    InstanceNorm,
    distance_to_center,
    gaussian_label,
)


@pytest.fixture(scope="module")
def golden() -> dict[str, torch.Tensor]:
    values = np.load(GOLDEN / "filter_learning.npz")
    return {name: torch.as_tensor(values[name]) for name in values.files}


@pytest.fixture
def optimizer(golden: dict[str, torch.Tensor]) -> FilterOptimizer:
    module = FilterOptimizer()
    published = {
        f"classifier.filter_optimizer.{name.removeprefix('optimizer/')}": value for name, value in golden.items()
    }
    module.load_state_dict(rename_tensors(published, module.state_dict(), "classifier.optimiser."))
    return module


def close(got: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def loss(
    optimizer: FilterOptimizer, filters: torch.Tensor, features: torch.Tensor, boxes: torch.Tensor
) -> torch.Tensor:
    """DiMP's discriminative loss ``(S,)`` of filters ``(S, C, h, w)``, the frames weighing the same."""
    scores = correlate(features, filters)
    distance = distance_to_center(boxes, (scores.shape[-2], scores.shape[-1]), optimizer.stride)
    slope = torch.sigmoid(optimizer.mask(distance))
    activated = torch.where(scores > 0, scores, slope * scores)
    residual = optimizer.spatial_weight(distance) * (activated - optimizer.label(distance))
    regularisation = optimizer.regularisation.square() * filters.square().sum(dim=(1, 2, 3))
    return residual.square().sum(dim=(2, 3)).mean(dim=0) + regularisation


def test_golden_norm(golden: dict[str, torch.Tensor]) -> None:
    norm = InstanceNorm(math.sqrt(1 / (16 * 4 * 4)))
    close(norm(golden["raw_train"]), golden["normalised_train"][:1])


def test_golden_initial_filter(golden: dict[str, torch.Tensor]) -> None:
    initializer = FilterInitializer(16)
    published = {f"classifier.filter_{name.replace('/', '.')}": value for name, value in golden.items()}
    initializer.load_state_dict(rename_tensors(published, initializer.state_dict(), "classifier.initialiser."))
    close(initializer(golden["normalised_train"], golden["boxes_xywh"]), golden["initial_filter"])


def test_golden_iterates_scores_and_losses(golden: dict[str, torch.Tensor], optimizer: FilterOptimizer) -> None:
    iterates = optimizer(golden["initial_filter"], golden["normalised_train"], golden["boxes_xywh"], 5)
    close(iterates, golden["filter_iterates"])
    close(torch.stack([correlate(golden["normalised_test"], f) for f in iterates]), golden["scores"])
    losses = [loss(optimizer, f, golden["normalised_train"], golden["boxes_xywh"]).mean() for f in iterates]
    close(torch.stack(losses), golden["losses"].flatten())


def test_golden_distance_bins(golden: dict[str, torch.Tensor]) -> None:
    y, x = golden["distance_map_centre_yx"].tolist()
    cells = torch.arange(19.0, dtype=torch.float64)
    distance = ((cells[:, None] - y).square() + (cells - x).square()).sqrt()
    # The golden positions, in float32 and up to 100 bins, are rounded twice: by the root and by the division.
    rounding = 2 * float(np.spacing(np.float32(100)))
    for bin_, expected in enumerate(golden["distance_map"][0].double()):
        got = DistanceFunction(torch.eye(100, dtype=torch.float64)[bin_], 0.1)(distance)
        torch.testing.assert_close(got, expected, rtol=0, atol=rounding)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=12), st.floats(0.05, 2), st.lists(st.floats(0, 30), min_size=1))
def test_bins_are_interpolated_as_numpy_does(values: list[float], width: float, distances: list[float]) -> None:
    function = DistanceFunction(torch.tensor(values, dtype=torch.float64), width)
    got = function(torch.tensor(distances, dtype=torch.float64)).detach()
    np.testing.assert_allclose(got, np.interp(distances, width * np.arange(len(values)), values), atol=1e-9)


def problem(frames: int = 2, sequences: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    features = torch.randn(frames, sequences, 3, 6, 6, dtype=torch.float64)
    boxes = torch.tensor([20.0, 30.0, 40.0, 25.0], dtype=torch.float64).expand(frames, sequences, 4)
    return torch.randn(sequences, 3, 4, 4, dtype=torch.float64), features, boxes


def test_every_step_is_along_the_gradient_with_the_gauss_newton_length() -> None:
    optimizer = FilterOptimizer(label_sigma=0.4).double()
    filters, features, boxes = problem()
    first, second = optimizer(filters, features, boxes, 1).detach()
    leaf = first.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(optimizer, leaf, features, boxes).sum(), leaf)
    step = second - first
    for sequence in range(2):
        cosine = torch.nn.functional.cosine_similarity(step[sequence].flatten(), -gradient[sequence].flatten(), dim=0)
        assert cosine.item() == pytest.approx(1, abs=1e-10)
    losses = [loss(optimizer, f, features, boxes) for f in optimizer(filters, features, boxes, 8)]
    assert all((after < before).all() for before, after in itertools.pairwise(losses))


def test_sequences_are_independent() -> None:
    optimizer = FilterOptimizer(label_sigma=0.4).double()
    filters, features, boxes = problem()
    together = optimizer(filters, features, boxes, 3)
    for s in range(2):
        alone = optimizer(filters[s : s + 1], features[:, s : s + 1], boxes[:, s : s + 1], 3)
        torch.testing.assert_close(together[:, s : s + 1], alone)


def test_results_do_not_depend_on_the_memory_layout() -> None:
    optimizer = FilterOptimizer(label_sigma=0.4).double()
    filters, features, boxes = problem(frames=3)
    expected = optimizer(filters, features, boxes, 3)
    every_other = torch.zeros(3, 4, *features.shape[2:], dtype=torch.float64)[:, ::2]
    sequences_first = torch.zeros(2, 5, *features.shape[2:], dtype=torch.float64).transpose(0, 1)[:3]
    channels_last = features.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    for layout in (every_other, sequences_first, channels_last):
        layout.copy_(features)
        torch.testing.assert_close(optimizer(filters, layout, boxes, 3), expected)


def test_updated_scores_do_not_drift() -> None:
    optimizer = FilterOptimizer(label_sigma=0.4)
    filters, features, boxes = (values.float() for values in problem())
    together = optimizer(filters, features, boxes, 30)
    one_by_one = [filters]
    for _ in range(30):
        one_by_one.append(optimizer(one_by_one[-1], features, boxes, 1)[-1])
    torch.testing.assert_close(together, torch.stack(one_by_one), rtol=1e-4, atol=1e-5)


def test_a_weight_of_zero_excludes_a_frame() -> None:
    optimizer = FilterOptimizer(label_sigma=0.4).double()
    filters, features, boxes = problem(frames=3)
    weights = torch.tensor([[0.25], [0.0], [0.75]], dtype=torch.float64).expand(3, 2)
    kept = [0, 2]
    weighted = optimizer(filters, features, boxes, 3, weights)
    torch.testing.assert_close(weighted, optimizer(filters, features[kept], boxes[kept], 3, weights[kept]))
    equal = torch.full((3, 2), 1 / 3, dtype=torch.float64)
    torch.testing.assert_close(optimizer(filters, features, boxes, 3, equal), optimizer(filters, features, boxes, 3))


def test_every_parameter_is_trained_through_the_unrolled_steps() -> None:
    optimizer = FilterOptimizer(bins=8, bin_width=0.7, label_sigma=0.4).double()
    filters, features, boxes = problem()
    correlate(features, optimizer(filters, features, boxes, 3)[-1]).square().sum().backward()
    for name, parameter in optimizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_parameter_counts() -> None:
    assert sum(parameter.numel() for parameter in FilterOptimizer().parameters()) == 302
    assert sum(parameter.numel() for parameter in FilterInitializer(256).parameters()) == 590_080


def test_golden_label() -> None:
    values = np.load(GOLDEN / "labels_and_hinge.npz")
    cells = int(values["feature_size"])
    size = cells + 1 - int(values["kernel_size"]) % 2
    stride = int(values["image_size"]) / cells
    sigma = float(values["sigma_factor"]) * cells
    label = gaussian_label(torch.as_tensor(values["boxes_xywh"]), (size, size), stride, sigma)
    torch.testing.assert_close(label, torch.as_tensor(values["gaussian_label"]), rtol=1e-4, atol=1e-6)


def test_distance_is_measured_in_cells_per_axis() -> None:
    box = torch.tensor([[28.0, 36.0, 8.0, 24.0]])  # center 32, 48: cell x 2, y 3
    distance = distance_to_center(box, (5, 7), stride=16)[0]
    assert distance.shape == (5, 7)
    assert distance[3, 2].item() == 0
    assert distance[3, 6].item() == pytest.approx(4)
    assert distance[0, 2].item() == pytest.approx(3)
    assert distance[0, 6].item() == pytest.approx(5)
