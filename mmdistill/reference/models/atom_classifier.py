"""ATOM's classifier: a projection and a filter, learned online from every video's own frames.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, sections 3.2 and 3.3,
https://arxiv.org/abs/1811.07628. The loss of section 3.2 is

    L(w) = sum over frames j of gamma_j |phi(f(w) * x_j) - y_j|^2 + sum over parameters k of lambda_k w_k^2

A projection followed by a filter is one filter f(w) of the unprojected channels. So learning both reads the features
twice per conjugate-gradient iteration and needs no projected features.

The paper does not say how features are scaled and where the projection starts. Here each map is scaled like DiMP's
classification features, so that the regularization means the same for every trunk. The projection starts at the first
frame's principal directions, without random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from mmdistill.correlation import correlate, correlate_transposed, score_size
from mmdistill.reference.models.dimp_classifier import InstanceNorm, distance_to_center
from mmdistill.reference.models.gauss_newton import Linearized, minimize
from mmdistill.toolkit.ranges import Range, Weight, check_fields


@dataclass(frozen=True)
class OnlineSettings:
    """Settings of online learning; the defaults are the published values.

    Attributes:
        channels: projected channels, at most those of the features.
        filter_size: cells along the filter.
        alpha: of the activation, which keeps scores above ``-alpha``.
        label_sigma: standard deviation of the label, relative to the square root of the target's area.
        filter_regularization: weight of the filter's squared norm.
        projection_regularization: weight of the projection's squared norm.
        initial_cg_iterations: conjugate-gradient iterations per Gauss-Newton step on the first frame.
        cg_iterations: the same on later frames.
    """

    channels: Annotated[int, Range(1, 4096)] = 64
    filter_size: Annotated[int, Range(1, 64)] = 4
    alpha: Annotated[float, Range(0, 10**9)] = 0.05
    label_sigma: Annotated[float, Range(0.001, 10)] = 0.25
    filter_regularization: Weight = 0.1
    projection_regularization: Weight = 1e-4
    initial_cg_iterations: Annotated[int, Range(0, 1000)] = 10
    cg_iterations: Annotated[int, Range(0, 1000)] = 5

    def __post_init__(self) -> None:
        check_fields(self)


class OnlineFilters(NamedTuple):
    """The learned parameters of S sequences.

    Attributes:
        projection: ``(S, P, C)``.
        filters: of the projected channels, ``(S, P, h, w)``.
    """

    projection: Tensor
    filters: Tensor


class OnlineClassifier:
    """ATOM's online classifier: one projection and one filter per sequence.

    It has no trained weights. Sequences are independent. Learning carries no gradient.

    Args:
        settings: the settings of online learning.
        stride: crop pixels per cell; cell i lies at ``i * stride``.
    """

    MIN_SIGMA = 0.5
    """Cells. With less, the label of a tiny target would miss all cells."""

    def __init__(self, settings: OnlineSettings = OnlineSettings(), *, stride: int = 16) -> None:
        self.settings, self.stride = settings, stride

    @torch.no_grad()
    def learn(self, features: Tensor, boxes: Tensor, iterations: int) -> OnlineFilters:
        """Learn projection and filters jointly on the first frame's samples, with equal weights.

        Args:
            features: ``(N, S, C, H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            iterations: Gauss-Newton steps; 6 in the paper.
        """
        settings = self.settings
        features = self._normalize(features)
        sequences, channels = features.shape[1:3]
        projection = _principal_directions(features, min(settings.channels, channels))
        size = (settings.filter_size, settings.filter_size)
        weights = (settings.projection_regularization, settings.filter_regularization)
        model = ProjectedFilter(projection.shape[1], channels, size, weights, like=features)
        equal = features.new_full(features.shape[:2], 1 / len(features))
        loss = OnlineLoss(model, OnlineSamples(features, self._labels(features, boxes), equal), settings.alpha)
        start = model.join(projection, features.new_zeros(sequences, projection.shape[1], *size))
        learned = minimize(loss.linearize, start, iterations, settings.initial_cg_iterations)
        return OnlineFilters(*model.split(learned))

    def project(self, state: OnlineFilters, features: Tensor) -> Tensor:
        """Return the projected features ``(N, S, P, H, W)`` of ``(N, S, C, H, W)``."""
        projected = state.projection @ self._normalize(features).flatten(-2)
        return rearrange(projected, "n s p (h w) -> n s p h w", h=features.shape[-2])

    def score(self, state: OnlineFilters, projected: Tensor) -> Tensor:
        """Return scores ``(N, S, H', W')`` of projected features ``(N, S, P, H, W)``."""
        return correlate(projected, state.filters)

    @torch.no_grad()
    def improve(
        self,
        state: OnlineFilters,
        projected: Tensor,
        boxes: Tensor,
        weights: Tensor,
        iterations: int,
    ) -> OnlineFilters:
        """Update the filters; the projection stays.

        Args:
            state: the initial parameters.
            projected: the samples' projected features ``(N, S, P, H, W)``.
            boxes: the targets ``(N, S, 4)``, ``x y w h`` in crop pixels.
            weights: the samples' weights ``(N, S)``, summing to 1 over N; 0 excludes a sample.
            iterations: Gauss-Newton steps; 1 in the paper.
        """
        channels, *size = state.filters.shape[1:]
        model = PlainFilter(channels, (size[0], size[1]), self.settings.filter_regularization, like=projected)
        loss = OnlineLoss(model, OnlineSamples(projected, self._labels(projected, boxes), weights), self.settings.alpha)
        learned = minimize(loss.linearize, state.filters.flatten(1), iterations, self.settings.cg_iterations)
        return state._replace(filters=model.filters(learned))

    def _normalize(self, features: Tensor) -> Tensor:
        scale = math.sqrt(1 / features.shape[2]) / self.settings.filter_size
        dtype = torch.promote_types(features.dtype, torch.float32)
        normalized: Tensor = InstanceNorm(scale)(features.to(dtype))
        return normalized

    def _labels(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Return Gaussian labels ``(N, S, H', W')`` at the boxes' centers."""
        filter_size = (self.settings.filter_size, self.settings.filter_size)
        size = score_size((features.shape[-2], features.shape[-1]), filter_size)
        side = (boxes[..., 2] * boxes[..., 3]).sqrt() / self.stride
        sigma = (self.settings.label_sigma * side).clamp(min=self.MIN_SIGMA)
        return torch.exp(-0.5 * (distance_to_center(boxes, size, self.stride) / sigma[..., None, None]).square())


def _principal_directions(features: Tensor, count: int) -> Tensor:
    """Return the orthonormal directions ``(S, count, C)`` with the largest square sums of the features."""
    columns = rearrange(features, "n s c h w -> s c (n h w)")
    directions: Tensor = torch.linalg.eigh(columns @ columns.mT).eigenvectors  # in columns, ascending
    return directions[..., -count:].mT


class FilterModel(Protocol):
    """S filters ``(S, C, h, w)`` as a function of parameters ``(S, D)``.

    Attributes:
        filter_size: h, w.
        regularization: lambda, ``(D,)``.
    """

    filter_size: tuple[int, int]
    regularization: Tensor

    def filters(self, parameters: Tensor) -> Tensor:
        """Return the filters ``(S, C, h, w)``."""
        ...

    def tangent(self, parameters: Tensor, direction: Tensor) -> Tensor:
        """Return the filters' derivative ``(S, C, h, w)`` along a direction ``(S, D)``."""
        ...

    def transposed(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient of the parameters ``(S, D)`` from that of the filters ``(S, C, h, w)``."""
        ...

    def changes(self, parameters: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        """Return c_1, c_2, ..., ``(S, C, h, w)``: t times the step adds t c_1 + t^2 c_2 + ... to the filters."""
        ...


class PlainFilter:
    """A filter that is its own parameters.

    Args:
        channels: C.
        filter_size: h, w.
        weight: lambda.
        like: a tensor of the same device and dtype.
    """

    def __init__(self, channels: int, filter_size: tuple[int, int], weight: float, like: Tensor) -> None:
        self.channels, self.filter_size = channels, filter_size
        self.regularization = like.new_full((channels * filter_size[0] * filter_size[1],), weight)

    def filters(self, parameters: Tensor) -> Tensor:
        """See ``FilterModel``."""
        return parameters.view(-1, self.channels, *self.filter_size)

    def tangent(self, parameters: Tensor, direction: Tensor) -> Tensor:  # noqa: ARG002
        """See ``FilterModel``."""
        return self.filters(direction)

    def transposed(self, parameters: Tensor, gradient: Tensor) -> Tensor:  # noqa: ARG002
        """See ``FilterModel``."""
        return gradient.flatten(1)

    def changes(self, parameters: Tensor, step: Tensor) -> tuple[Tensor, ...]:  # noqa: ARG002
        """See ``FilterModel``."""
        return (self.filters(step),)


class ProjectedFilter:
    """A filter with two parameters: a projection ``(S, P, C)``, and a filter ``(S, P, h, w)`` of projected channels.

    Args:
        projected: P.
        channels: C.
        filter_size: h, w.
        weights: lambda of the projection, then of the filter.
        like: a tensor of the same device and dtype.
    """

    def __init__(
        self, projected: int, channels: int, filter_size: tuple[int, int], weights: tuple[float, float], like: Tensor
    ) -> None:
        self.projected, self.channels, self.filter_size = projected, channels, filter_size
        self._sizes = [projected * channels, projected * filter_size[0] * filter_size[1]]
        parts = [like.new_full((size,), weight) for size, weight in zip(self._sizes, weights, strict=True)]
        self.regularization = torch.cat(parts)

    def join(self, projection: Tensor, filters: Tensor) -> Tensor:
        """Return the parameters ``(S, D)``."""
        return torch.cat([projection.flatten(1), filters.flatten(1)], dim=1)

    def split(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Return projection ``(S, P, C)`` and filters ``(S, P, h, w)``."""
        projection, filters = torch.split(parameters, self._sizes, dim=1)
        return projection.view(-1, self.projected, self.channels), filters.view(-1, self.projected, *self.filter_size)

    def filters(self, parameters: Tensor) -> Tensor:
        """See ``FilterModel``."""
        return self._product(*self.split(parameters))

    def tangent(self, parameters: Tensor, direction: Tensor) -> Tensor:
        """See ``FilterModel``."""
        projection, filters = self.split(parameters)
        projection_change, filter_change = self.split(direction)
        return self._product(projection_change, filters) + self._product(projection, filter_change)

    def transposed(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """See ``FilterModel``."""
        projection, filters = self.split(parameters)
        cells = gradient.flatten(2)
        return self.join(filters.flatten(2) @ cells.mT, projection @ cells)

    def changes(self, parameters: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        """See ``FilterModel``."""
        return self.tangent(parameters, step), self.filters(step)

    def _product(self, projection: Tensor, filters: Tensor) -> Tensor:
        product = projection.mT @ filters.flatten(2)
        return rearrange(product, "s c (h w) -> s c h w", h=self.filter_size[0])


class OnlineSamples(NamedTuple):
    """Training samples of the filters: N frames of S sequences.

    Attributes:
        features: x, ``(N, S, C, H, W)``.
        labels: y, the target scores, ``(N, S, H', W')``.
        weights: gamma, ``(N, S)``.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor


def activate(scores: Tensor, alpha: float) -> Tensor:
    """Return t for t >= 0 and alpha (exp(t / alpha) - 1) below, which is never less than -alpha."""
    return torch.where(scores >= 0, scores, alpha * torch.expm1(scores.clamp(max=0) / alpha))


class OnlineLoss:
    """The loss of each sequence's filter on its samples.

    Args:
        model: the filters as a function of the parameters.
        samples: the training samples.
        alpha: of the activation.
    """

    def __init__(self, model: FilterModel, samples: OnlineSamples, alpha: float) -> None:
        self.model, self.samples, self.alpha = model, samples, alpha
        self._weights = samples.weights[..., None, None]

    def linearize(self, parameters: Tensor) -> Linearized:
        """Return the least-squares problem around parameters ``(S, D)``."""
        model, regularization = self.model, self.model.regularization
        scores = self._correlate(model.filters(parameters))
        slope = torch.exp(scores.clamp(max=0) / self.alpha)
        curvature = self._weights * slope.square()

        def to_parameters(at_scores: Tensor) -> Tensor:
            at_filters = correlate_transposed(self.samples.features, at_scores, model.filter_size)
            return model.transposed(parameters, at_filters)

        def product(direction: Tensor) -> Tensor:
            change = self._correlate(model.tangent(parameters, direction))
            return to_parameters(curvature * change) + regularization * direction

        def line_loss(step: Tensor) -> Callable[[float], Tensor]:
            changes = [self._correlate(change) for change in model.changes(parameters, step)]
            return lambda length: self._loss(
                sum((length**power * change for power, change in enumerate(changes, start=1)), scores),
                parameters + length * step,
            )

        residual = activate(scores, self.alpha) - self.samples.labels
        gradient = to_parameters(self._weights * slope * residual) + regularization * parameters
        return Linearized(gradient, product, line_loss)

    def _correlate(self, filters: Tensor) -> Tensor:
        return correlate(self.samples.features, filters)

    def _loss(self, scores: Tensor, parameters: Tensor) -> Tensor:
        square = (activate(scores, self.alpha) - self.samples.labels).square()
        # In two steps: OpenCV sums wrongly over axes that are not neighbors.
        errors = (self._weights * square).sum(dim=0).sum(dim=(1, 2))
        return errors + (self.model.regularization * parameters.square()).sum(1)
