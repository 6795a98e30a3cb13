"""ATOM's online classifier and its loss."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.reference.models.atom_classifier import (
    OnlineClassifier,
    OnlineFilters,
    OnlineLoss,
    OnlineSamples,
    OnlineSettings,
    PlainFilter,
    ProjectedFilter,
    activate,
)
from mmdistill.reference.models.dimp_classifier import gaussian_label
from mmdistill.reference.tracking.settings import PUBLISHED_ATOM

SIDE = 9  # cells of the feature map
SMALL = OnlineSettings(channels=6)


def samples(frames: int = 5, sequences: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Random features and boxes."""
    features = torch.randn(frames, sequences, 12, SIDE, SIDE, dtype=dtype).relu()
    boxes = torch.rand(frames, sequences, 4, dtype=dtype) * 40 + torch.tensor([20, 20, 30, 30])
    return features, boxes


def labels_of(boxes: Tensor, share: float) -> Tensor:
    """The labels ``(N, H', W')`` of one sequence's boxes ``(N, 4)``, box by box."""
    sigmas = [max(float((box[2] * box[3]) ** 0.5) / 16 * share, 0.5) for box in boxes]
    size = (SIDE + 1, SIDE + 1)
    return torch.stack([gaussian_label(box, size, 16, sigma) for box, sigma in zip(boxes, sigmas, strict=True)])


def loss(settings: OnlineSettings, state: OnlineFilters, x: Tensor, boxes: Tensor, weights: Tensor) -> Tensor:
    """The filters' loss ``(S,)`` on projected features, with torch's own convolution."""
    total = []
    for s, filters in enumerate(state.filters):
        scores = F.elu(F.conv2d(x[:, s], filters[None], padding=2)[:, 0] / settings.alpha) * settings.alpha
        difference = scores - labels_of(boxes[:, s], settings.label_sigma)
        data = (weights[:, s, None, None] * difference.square()).sum()
        total.append(data + settings.filter_regularization * filters.square().sum())
    return torch.stack(total)


def equal_weights(features: Tensor) -> Tensor:
    return features.new_full(features.shape[:2], 1 / len(features))


def test_defaults_equal_the_paper() -> None:
    settings = OnlineSettings()
    assert (settings.channels, settings.filter_size, settings.alpha) == (64, 4, 0.05)
    assert (settings.initial_cg_iterations, settings.cg_iterations) == (10, 5)
    assert PUBLISHED_ATOM.first_frame.iterations == 6
    assert (PUBLISHED_ATOM.learning.iterations, PUBLISHED_ATOM.learning.interval) == (1, 10)


def test_without_activation_the_filter_is_the_least_squares_solution() -> None:
    settings = replace(SMALL, alpha=1e9, cg_iterations=200)
    classifier = OnlineClassifier(settings)
    x, boxes = samples(frames=4, sequences=2)
    x = x[:, :, :6]
    weights = torch.rand(4, 2, dtype=torch.float64)
    start = OnlineFilters(torch.zeros(2, 6, 12, dtype=torch.float64), torch.zeros(2, 6, 4, 4, dtype=torch.float64))
    learned = classifier.improve(start, x, boxes, weights, 1)
    for s in range(2):
        windows = F.unfold(x[:, s], 4, padding=2).transpose(1, 2)  # frames, places, channels x cells
        labels = labels_of(boxes[:, s], 1 / 4)
        root = weights[:, s, None].sqrt()
        matrix = torch.cat([(root[..., None] * windows).flatten(0, 1), 0.1**0.5 * torch.eye(96, dtype=torch.float64)])
        target = torch.cat([(root * labels.flatten(1)).flatten(), torch.zeros(96, dtype=torch.float64)])
        expected, *_ = np.linalg.lstsq(matrix.numpy(), target.numpy(), rcond=None)
        np.testing.assert_allclose(learned.filters[s].flatten(), expected, atol=1e-8)


def test_every_update_iteration_lowers_the_loss() -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples()
    x, weights = features[:, :, :6], torch.rand(5, 3, dtype=torch.float64)
    for scale in (0, 0.01, 0.1, 1):
        state = OnlineFilters(torch.zeros(3, 6, 12), scale * torch.randn(3, 6, 4, 4, dtype=torch.float64))
        losses = [
            loss(SMALL, classifier.improve(state, x, boxes, weights, iterations), x, boxes, weights)
            for iterations in range(5)
        ]
        assert all((after < before).all() for before, after in itertools.pairwise(losses)), scale


def test_every_iteration_on_the_first_frame_lowers_the_loss() -> None:
    features, boxes = samples()
    weights = equal_weights(features)
    losses = []
    classifier = OnlineClassifier(SMALL)
    for iterations in range(7):
        state = classifier.learn(features, boxes, iterations)
        data = loss(SMALL, state, classifier.project(state, features), boxes, weights)
        losses.append(data + SMALL.projection_regularization * state.projection.square().sum(dim=(1, 2)))
    assert all((after < before).all() for before, after in itertools.pairwise(losses))
    assert (losses[-1] < 0.7 * losses[0]).all()


def test_the_projection_starts_at_the_principal_directions() -> None:
    features, boxes = samples(sequences=2)
    classifier = OnlineClassifier(SMALL)
    state = classifier.learn(features, boxes, 0)
    assert not state.filters.any()
    normalized = features * (12 * 81 / features.square().sum(dim=(2, 3, 4), keepdim=True)).sqrt() / (4 * 12**0.5)
    projected = classifier.project(state, features)
    for s in range(2):
        columns = normalized[:, s].transpose(0, 1).flatten(1)
        singular = torch.linalg.svdvals(columns)
        torch.testing.assert_close(projected[:, s].square().sum(), singular[:6].square().sum(), rtol=1e-4, atol=0)
        torch.testing.assert_close(state.projection[s] @ state.projection[s].T, torch.eye(6, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sequences_are_independent(dtype: torch.dtype) -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples(dtype=dtype)
    weights = torch.rand(5, 3, dtype=dtype)

    def follow(chosen: slice) -> Tensor:
        x, b = features[:, chosen], boxes[:, chosen]
        state = classifier.learn(x, b, 6)
        projected = classifier.project(state, x)
        state = classifier.improve(state, projected, b.flip(0), weights[:, chosen], 2)
        return classifier.score(state, projected)

    together = follow(slice(None))
    tolerance = 1e-4 if dtype == torch.float32 else 1e-8
    for s in range(3):
        torch.testing.assert_close(together[:, s : s + 1], follow(slice(s, s + 1)), rtol=0, atol=tolerance)


def test_zero_features_give_zero_filters_and_do_not_affect_other_sequences() -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples(sequences=2)
    features[:, 0] = 0
    state = classifier.learn(features, boxes, 6)
    projected = classifier.project(state, features)
    state = classifier.improve(state, projected, boxes, equal_weights(projected), 2)
    assert not state.filters[0].any()
    assert all(tensor.isfinite().all() for tensor in state)
    alone = classifier.learn(features[:, 1:], boxes[:, 1:], 6)
    torch.testing.assert_close(classifier.learn(features, boxes, 6).filters[1:], alone.filters)


@pytest.mark.parametrize("features", [torch.ones(3, 1, 12, SIDE, SIDE), torch.full((3, 1, 12, SIDE, SIDE), 1e6)])
def test_constant_features_give_finite_filters(features: Tensor) -> None:
    classifier = OnlineClassifier(SMALL)
    _, boxes = samples(3, 1, torch.float32)
    state = classifier.learn(features, boxes, 6)
    assert all(tensor.isfinite().all() for tensor in state)
    assert state.filters.abs().max() > 1e-3


def test_a_box_without_area_gives_finite_filters() -> None:
    features, boxes = samples(3, 1)
    boxes[..., 2:] = 0
    boxes[..., :2] = 64  # on a cell: distance and deviation would both be zero
    assert OnlineClassifier(SMALL).learn(features, boxes, 6).filters.isfinite().all()


@pytest.mark.slow
def test_fully_solved_steps_keep_the_target() -> None:
    # While the filter is zero only its regularisation is known of the projection: its whole step would be to zero.
    features, boxes = samples()
    classifier = OnlineClassifier(replace(SMALL, initial_cg_iterations=300))
    state = classifier.learn(features, boxes, 6)
    usual = OnlineClassifier(SMALL)
    other = usual.learn(features, boxes, 6)
    weights = equal_weights(features)
    thorough = loss(SMALL, state, classifier.project(state, features), boxes, weights)
    hasty = loss(SMALL, other, usual.project(other, features), boxes, weights)
    assert (thorough < 1.05 * hasty).all()


def test_a_weight_of_zero_excludes_a_sample() -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples()
    state = classifier.learn(features, boxes, 6)
    projected = classifier.project(state, features)
    weights = torch.tensor([0.25, 0.0, 0.5, 0.0, 0.25], dtype=torch.float64)[:, None].expand(5, 3)
    kept = [0, 2, 4]
    left_out = classifier.improve(state, projected, boxes, weights, 2)
    fewer = classifier.improve(state, projected[kept], boxes[kept], weights[kept], 2)
    torch.testing.assert_close(left_out.filters, fewer.filters)
    assert torch.equal(left_out.projection, state.projection)


def test_the_features_scale_does_not_matter() -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples()
    small, large = classifier.learn(features, boxes, 6), classifier.learn(1000 * features, boxes, 6)
    scores = [
        classifier.score(state, classifier.project(state, x))
        for state, x in ((small, features), (large, 1000 * features))
    ]
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-5)


def test_half_precision_features_are_learned_in_single() -> None:
    classifier = OnlineClassifier(SMALL)
    features, boxes = samples(dtype=torch.float32)
    state = classifier.learn(features.half(), boxes, 6)
    assert classifier.score(state, classifier.project(state, features.half())).dtype == torch.float32


def test_features_of_few_channels_are_not_padded() -> None:
    features, boxes = samples()
    state = OnlineClassifier().learn(features, boxes, 6)
    assert state.projection.shape == (3, 12, 12)
    assert state.filters.shape == (3, 12, 4, 4)


def textured(
    background: Tensor, pattern: Tensor, row: int, column: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A feature map with a 3x3 pattern around a cell, and the pattern's box."""
    features = background + 0.2 * torch.randn(background.shape, generator=generator)
    features[:, row - 1 : row + 2, column - 1 : column + 2] = pattern
    # The pattern's middle cell covers crop pixels 16 column .. 16 column + 16.
    return features, torch.tensor([16.0 * column - 16, 16.0 * row - 16, 48, 48])


@pytest.mark.parametrize("seed", range(5))
def test_a_moved_pattern_is_found(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    background = torch.randn(32, 18, 18, generator=generator)
    pattern = torch.randn(32, 3, 3, generator=generator)
    classifier = OnlineClassifier()
    places = [(9, 9), (6, 12), (12, 5), (5, 6), (13, 13)]
    train = [textured(background, pattern, *place, generator) for place in places]
    features, boxes = (torch.stack(part)[:, None] for part in zip(*train, strict=True))
    state = classifier.learn(features, boxes, 6)

    def found(row: int, column: int) -> tuple[int, int, float]:
        map_, box = textured(background, pattern, row, column, generator)
        scores = classifier.score(state, classifier.project(state, map_[None, None]))[0, 0]
        center = ((box[1] + box[3] / 2) / 16, (box[0] + box[2] / 2) / 16)
        place = divmod(int(scores.argmax()), 19)
        return place[0] - round(center[0].item() - 1e-3), place[1] - round(center[1].item() - 1e-3), scores.max().item()

    for place in [(9, 9), (3, 14), (14, 4), (8, 7)]:
        down, right, height = found(*place)
        assert abs(down) <= 1
        assert abs(right) <= 1
        assert height > 0.4


FRAMES, SEQUENCES, CHANNELS, PROJECTED, SIZE, ALPHA = 3, 2, 5, 3, 6, 0.3
KINDS = ["alone", "projected"]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def residuals(kind: str, samples: OnlineSamples, sequence: int, parameters: Tensor) -> Tensor:
    """All of one sequence's residuals, with torch's own convolutions, projecting before filtering."""
    x = samples.features[:, sequence]
    if kind == "projected":
        projection, parameters = parameters[: PROJECTED * CHANNELS], parameters[PROJECTED * CHANNELS :]
        x = F.conv2d(x, projection.view(PROJECTED, CHANNELS, 1, 1))
        weights = torch.cat([torch.full_like(projection, 0.2), torch.full_like(parameters, 0.7)])
        parameters_all = torch.cat([projection, parameters])
    else:
        weights, parameters_all = torch.full_like(parameters, 0.7), parameters
    scores = F.conv2d(x, parameters.view(1, x.shape[1], 4, 4), padding=2)[:, 0]
    data = F.elu(scores / ALPHA) * ALPHA - samples.labels[:, sequence]
    data = data * samples.weights[:, sequence, None, None].sqrt()
    return torch.cat([data.flatten(), weights.sqrt() * parameters_all])


def problem(kind: str) -> tuple[OnlineLoss, OnlineSamples, Tensor]:
    samples = OnlineSamples(
        random(FRAMES, SEQUENCES, CHANNELS, SIZE, SIZE),
        random(FRAMES, SEQUENCES, SIZE + 1, SIZE + 1),
        torch.rand(FRAMES, SEQUENCES, dtype=torch.float64),
    )
    model = (
        PlainFilter(CHANNELS, (4, 4), 0.7, like=samples.features)
        if kind == "alone"
        else ProjectedFilter(PROJECTED, CHANNELS, (4, 4), (0.2, 0.7), like=samples.features)
    )
    return OnlineLoss(model, samples, ALPHA), samples, 0.3 * random(SEQUENCES, len(model.regularization))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_product_agree_with_automatic_differentiation(kind: str) -> None:
    loss, samples, parameters = problem(kind)
    direction = random(*parameters.shape)
    linearized = loss.linearize(parameters)
    gradient, product = linearized.gradient, linearized.product(direction)
    for s in range(SEQUENCES):

        def of_sequence(w: Tensor, s: int = s) -> Tensor:
            return residuals(kind, samples, s, w)

        jacobian = torch.func.jacrev(of_sequence)(parameters[s])
        torch.testing.assert_close(gradient[s], jacobian.T @ of_sequence(parameters[s]))
        torch.testing.assert_close(product[s], jacobian.T @ (jacobian @ direction[s]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0.0, 0.25, 1.0, -2.0])
def test_the_loss_along_a_step_is_exact(kind: str, length: float) -> None:
    loss, samples, parameters = problem(kind)
    step = random(*parameters.shape)
    got = loss.linearize(parameters).line_loss(step)(length)
    moved = parameters + length * step
    expected = [residuals(kind, samples, s, moved[s]).square().sum() for s in range(SEQUENCES)]
    torch.testing.assert_close(got, torch.stack(expected))


def test_split_inverts_join() -> None:
    model = ProjectedFilter(PROJECTED, CHANNELS, (4, 2), (0.2, 0.7), like=torch.zeros(1))
    projection, filters = torch.randn(SEQUENCES, PROJECTED, CHANNELS), torch.randn(SEQUENCES, PROJECTED, 4, 2)
    parameters = model.join(projection, filters)
    assert parameters.shape == (SEQUENCES, len(model.regularization))
    assert all(torch.equal(a, b) for a, b in zip(model.split(parameters), (projection, filters), strict=True))


def test_the_activation_by_hand() -> None:
    scores = torch.tensor([2.0, 0.0, -0.05, -1.0, -1e4, 1e4])
    expected = [2.0, 0.0, 0.05 * (math.exp(-1) - 1), -0.05, -0.05, 1e4]
    assert activate(scores, 0.05).tolist() == pytest.approx(expected)
