"""ATOM's loss of a target filter, linearized by hand.

    L(w) = sum over frames j of gamma_j |phi(f(w) * x_j) - y_j|^2 + sum over parameters k of lambda_k w_k^2

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.2. The filter f(w) acts on
the channels of x. A projection followed by a filter is a filter too, their product, so the learning of both needs no
projected features: features are read twice per conjugate-gradient iteration, whichever parameters are learned.

Gauss-Newton steps for many least-squares problems at once, each step found by conjugate gradients.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.3.

A problem's loss is the squared length of its residuals, L(w) = |r(w)|^2. Around w the residuals are taken as linear,
r + J d, and the step d that is best for them solves (J^T J) d = -J^T r. All quantities have a row per problem, and no
problem's steps depend on another's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from einops import rearrange
from torch import Tensor

from mmdistill.correlation import correlate, correlate_transposed


class Linearized(NamedTuple):
    """Least-squares problems around their parameters w, ``(S, D)``.

    Attributes:
        gradient: J^T r, ``(S, D)``: half the loss's gradient.
        product: takes directions d, ``(S, D)``, to J^T J d.
        along: takes steps d, ``(S, D)``, to a function of the step's length t, a number, that returns the losses
            ``(S,)`` at w + t d; these are the true ones, not those of the linearized residuals.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    along: Callable[[Tensor], Callable[[float], Tensor]]


def minimize(linearize: Callable[[Tensor], Linearized], start: Tensor, iterations: int, cg_iterations: int) -> Tensor:
    """Return parameters ``(S, D)`` after Gauss-Newton steps; no step raises a problem's loss.

    The paper always takes the whole step. Residuals that bend can make that a step uphill, so each problem here takes
    the best of ``LENGTHS`` times its step, and stays where it is when none is an improvement.

    Args:
        linearize: the problems around given parameters.
        start: parameters to start from, ``(S, D)``.
        iterations: Gauss-Newton steps.
        cg_iterations: conjugate-gradient iterations for each of them.
    """
    parameters = start
    for _ in range(iterations):
        linearized = linearize(parameters)
        step = conjugate_gradient(linearized.product, -linearized.gradient, cg_iterations)
        parameters = parameters + _best_length(linearized.along(step))[:, None] * step
    return parameters


LENGTHS = (1.0, 0.5, 0.25, 0.125)


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    """Return approximate solutions x ``(S, D)`` of A x = b, one positive semi-definite A per row.

    The direction's share of the last one follows Fletcher and Reeves; every call starts from x = 0 with no earlier
    direction. A row that is solved to rounding keeps its x.

    In exact arithmetic every residual is orthogonal to all before it. Where one eigenvalue of A is far above the
    others, as the features' mean makes it, rounding undoes that within ten iterations, and x becomes a matter of the
    last bit. So residuals are made orthogonal again, which costs next to nothing.

    Args:
        product: takes x to A x, row by row.
        target: b, ``(S, D)``.
        iterations: how many.
    """
    solution = torch.zeros_like(target)
    residual = direction = target
    square = _dot(residual, residual)
    solved = square * torch.finfo(target.dtype).eps ** 2
    earlier: list[Tensor] = []
    for _ in range(iterations):
        image = product(direction)
        curvature = _dot(direction, image)
        open_ = (square > solved) & (curvature > 0)
        earlier.append(residual * _share(torch.ones_like(square), square.sqrt(), open_))
        length = _share(square, curvature, open_)
        solution = solution + length * direction
        residual = _orthogonal(residual - length * image, earlier)
        last, square = square, _dot(residual, residual)
        direction = residual + _share(square, last, open_) * direction
    return solution


def _orthogonal(x: Tensor, basis: list[Tensor]) -> Tensor:
    """Return x ``(S, D)`` without its parts along orthonormal vectors, each ``(S, D)``."""
    vectors = torch.stack(basis, dim=1)
    for _ in range(2):  # what rounding leaves of the first time, the second removes
        x = x - ((vectors @ x[..., None]) * vectors).sum(dim=1)
    return x


def _best_length(loss_at: Callable[[float], Tensor]) -> Tensor:
    """Return per problem the length ``(S,)`` with the lowest loss; 0 where all raise it."""
    lowest = loss_at(0.0)
    best = torch.zeros_like(lowest)
    for length in LENGTHS:
        loss = loss_at(length)
        best = torch.where(loss < lowest, length, best)
        lowest = torch.minimum(loss, lowest)
    return best


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(dim=1)


def _share(numerator: Tensor, denominator: Tensor, where: Tensor) -> Tensor:
    """Return the quotient ``(S, 1)``, and 0 where it is not wanted, whatever the numbers there."""
    return torch.where(where, numerator / torch.where(where, denominator, 1.0), 0.0)[:, None]


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

    def linearize(self, parameters: Tensor) -> Linearized:
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
        return Linearized(gradient, product, along)

    def _correlate(self, filters: Tensor) -> Tensor:
        return correlate(self.samples.features, filters)

    def _value(self, scores: Tensor, parameters: Tensor) -> Tensor:
        square = (activate(scores, self.alpha) - self.samples.labels).square()
        return (self._weights * square).sum(dim=(0, 2, 3)) + (self.model.regularisation * parameters.square()).sum(1)
