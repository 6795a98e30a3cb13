"""Gauss-Newton steps for many least-squares problems at once, each step found by conjugate gradients.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.3.

A problem's loss is the squared length of its residuals, L(w) = |r(w)|^2. Around w the residuals are taken as linear,
r + J d, and the step d that is best for them solves (J^T J) d = -J^T r. All quantities have a row per problem, and no
problem's steps depend on another's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Linearised(NamedTuple):
    """Least-squares problems around their parameters w, ``(S, D)``.

    Attributes:
        gradient: J^T r, ``(S, D)``: half the loss's gradient.
        product: takes directions d, ``(S, D)``, to J^T J d.
        along: takes steps d, ``(S, D)``, to a function of the step's length t, a number, that returns the losses
            ``(S,)`` at w + t d; these are the true ones, not those of the linearised residuals.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    along: Callable[[Tensor], Callable[[float], Tensor]]


def minimise(linearise: Callable[[Tensor], Linearised], start: Tensor, iterations: int, cg_iterations: int) -> Tensor:
    """Return parameters ``(S, D)`` after Gauss-Newton steps; no step raises a problem's loss.

    The paper always takes the whole step. Residuals that bend can make that a step uphill, so each problem here takes
    the best of ``LENGTHS`` times its step, and stays where it is when none is an improvement.

    Args:
        linearise: the problems around given parameters.
        start: parameters to start from, ``(S, D)``.
        iterations: Gauss-Newton steps.
        cg_iterations: conjugate-gradient iterations for each of them.
    """
    parameters = start
    for _ in range(iterations):
        linearised = linearise(parameters)
        step = conjugate_gradient(linearised.product, -linearised.gradient, cg_iterations)
        parameters = parameters + _best_length(linearised.along(step))[:, None] * step
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
