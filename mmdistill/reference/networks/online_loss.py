"""ATOM's loss of a target filter, linearised by hand.

    L(w) = sum over frames j of gamma_j |phi(f(w) * x_j) - y_j|^2 + sum over parameters k of lambda_k w_k^2

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.2. The filter f(w) acts on
the channels of x. A projection followed by a filter is a filter too, their product, so the learning of both needs no
projected features: features are read twice per conjugate-gradient iteration, whichever parameters are learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from mmdistill.correlation import correlate, correlate_transposed
from mmdistill.reference.networks.gauss_newton import Linearised


class FilterModel(Protocol):
    """How S filters ``(S, C, h, w)`` depend on parameters ``(S, D)``.

    Attributes:
        filter_size: h, w.
        regularisation: lambda, ``(D,)``.
    """

    filter_size: tuple[int, int]
    regularisation: Tensor

    def filters(self, parameters: Tensor) -> Tensor:
        """Return the filters ``(S, C, h, w)``."""
        ...

    def tangent(self, parameters: Tensor, direction: Tensor) -> Tensor:
        """Return the filters' change ``(S, C, h, w)`` along a direction ``(S, D)``, to first order."""
        ...

    def transposed(self, parameters: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradient in the parameters ``(S, D)`` of one in the filters ``(S, C, h, w)``."""
        ...

    def changes(self, parameters: Tensor, step: Tensor) -> tuple[Tensor, ...]:
        """Return c_1, c_2, ..., each ``(S, C, h, w)``: t times the step changes the filters by t c_1 + t^2 c_2 + ..."""
        ...


class FilterAlone:
    """The parameters are the filter.

    Args:
        channels: C.
        filter_size: h, w.
        weight: lambda.
        like: a tensor of the wanted device and type.
    """

    def __init__(self, channels: int, filter_size: tuple[int, int], weight: float, like: Tensor) -> None:
        self.channels, self.filter_size = channels, filter_size
        self.regularisation = like.new_full((channels * filter_size[0] * filter_size[1],), weight)

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
    """The parameters are a projection ``(S, P, C)`` and a filter ``(S, P, h, w)`` of the projected channels.

    Args:
        projected: P.
        channels: C.
        filter_size: h, w.
        weights: lambda of the projection and of the filter.
        like: a tensor of the wanted device and type.
    """

    def __init__(
        self, projected: int, channels: int, filter_size: tuple[int, int], weights: tuple[float, float], like: Tensor
    ) -> None:
        self.projected, self.channels, self.filter_size = projected, channels, filter_size
        self._sizes = [projected * channels, projected * filter_size[0] * filter_size[1]]
        parts = [like.new_full((size,), weight) for size, weight in zip(self._sizes, weights, strict=True)]
        self.regularisation = torch.cat(parts)

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


class Samples(NamedTuple):
    """What filters are learned from: N frames of S sequences.

    Attributes:
        features: x, ``(N, S, C, H, W)``.
        labels: y, the scores wanted, ``(N, S, H', W')``.
        weights: gamma, ``(N, S)``.
    """

    features: Tensor
    labels: Tensor
    weights: Tensor


def activate(scores: Tensor, alpha: float) -> Tensor:
    """Return t for t >= 0, alpha (exp(t / alpha) - 1) below: how far below -alpha hardly matters."""
    return torch.where(scores >= 0, scores, alpha * torch.expm1(scores.clamp(max=0) / alpha))


class OnlineLoss:
    """The loss of each sequence's filter on its samples.

    Args:
        model: what the parameters are.
        samples: what to learn from.
        alpha: of the activation.
    """

    def __init__(self, model: FilterModel, samples: Samples, alpha: float) -> None:
        self.model, self.samples, self.alpha = model, samples, alpha
        self._weights = samples.weights[..., None, None]

    def linearise(self, parameters: Tensor) -> Linearised:
        """Return the least-squares problem around parameters ``(S, D)``."""
        model, regularisation = self.model, self.model.regularisation
        scores = self._correlate(model.filters(parameters))
        slope = torch.exp(scores.clamp(max=0) / self.alpha)
        curvature = self._weights * slope.square()

        def back(at_scores: Tensor) -> Tensor:
            at_filters = correlate_transposed(self.samples.features, at_scores, model.filter_size)
            return model.transposed(parameters, at_filters)

        def product(direction: Tensor) -> Tensor:
            change = self._correlate(model.tangent(parameters, direction))
            return back(curvature * change) + regularisation * direction

        def along(step: Tensor) -> Callable[[float], Tensor]:
            changes = [self._correlate(change) for change in model.changes(parameters, step)]
            return lambda length: self._value(
                sum((length**power * change for power, change in enumerate(changes, start=1)), scores),
                parameters + length * step,
            )

        residual = activate(scores, self.alpha) - self.samples.labels
        gradient = back(self._weights * slope * residual) + regularisation * parameters
        return Linearised(gradient, product, along)

    def _correlate(self, filters: Tensor) -> Tensor:
        return correlate(self.samples.features, filters)

    def _value(self, scores: Tensor, parameters: Tensor) -> Tensor:
        square = (activate(scores, self.alpha) - self.samples.labels).square()
        return (self._weights * square).sum(dim=(0, 2, 3)) + (self.model.regularisation * parameters.square()).sum(1)
