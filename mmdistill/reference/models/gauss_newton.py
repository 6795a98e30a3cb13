"""Gauss-Newton steps for many least-squares problems at once, each step found by conjugate gradients.

Danelljan et al., ATOM: Accurate Tracking by Overlap Maximization, CVPR 2019, section 3.3,
https://arxiv.org/abs/1811.07628.

A problem's loss is the squared norm of its residuals, L(w) = |r(w)|^2. Linearized around w, the residuals are r + J d,
and the best step d solves (J^T J) d = -J^T r. All tensors have one row per problem; problems are independent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

STEP_LENGTHS = (1.0, 0.5, 0.25, 0.125)
"""Multiples of a Gauss-Newton step that are tried."""


class Linearized(NamedTuple):
    """Least-squares problems linearized around parameters w, ``(S, D)``.

    Attributes:
        gradient: J^T r, ``(S, D)``: half the loss's gradient.
        product: maps directions d, ``(S, D)``, to J^T J d.
        line_loss: maps steps d, ``(S, D)``, to a function of the step length t. It returns the exact losses ``(S,)`` at
            w + t d, not those of the linearized residuals.
    """

    gradient: Tensor
    product: Callable[[Tensor], Tensor]
    line_loss: Callable[[Tensor], Callable[[float], Tensor]]


def minimize(linearize: Callable[[Tensor], Linearized], start: Tensor, iterations: int, cg_iterations: int) -> Tensor:
    """Return parameters ``(S, D)`` after Gauss-Newton steps; no step raises a problem's loss.

    The paper takes the whole step. For nonlinear residuals that can raise the loss, so each problem takes the best of
    ``STEP_LENGTHS`` times its step, or no step if none lowers the loss.

    Args:
        linearize: returns the problems around given parameters.
        start: initial parameters, ``(S, D)``.
        iterations: Gauss-Newton steps.
        cg_iterations: conjugate-gradient iterations per step.
    """
    parameters = start
    for _ in range(iterations):
        linearized = linearize(parameters)
        step = conjugate_gradient(linearized.product, -linearized.gradient, cg_iterations)
        parameters = parameters + _best_length(linearized.line_loss(step))[:, None] * step
    return parameters


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    """Return approximate solutions x ``(S, D)`` of A x = b, with one positive semi-definite A per row.

    Directions follow Fletcher and Reeves, starting from x = 0. A row that is solved to rounding keeps its x.

    In exact arithmetic every residual is orthogonal to all earlier ones. If one eigenvalue of A is far above the
    others, rounding destroys that within ten iterations; the features' mean makes such an A. So residuals are
    orthogonalized again, at almost no cost.

    Args:
        product: maps x to A x, row by row.
        target: b, ``(S, D)``.
        iterations: number of iterations.
    """
    solution = torch.zeros_like(target)
    residual = direction = target
    square = _dot(residual, residual)
    solved = square * torch.finfo(target.dtype).eps ** 2
    earlier: list[Tensor] = []
    for _ in range(iterations):
        image = product(direction)
        curvature = _dot(direction, image)
        unsolved = (square > solved) & (curvature > 0)
        earlier.append(residual * _divide_where(unsolved, torch.ones_like(square), square.sqrt()))
        length = _divide_where(unsolved, square, curvature)
        solution = solution + length * direction
        residual = _orthogonalize(residual - length * image, earlier)
        last, square = square, _dot(residual, residual)
        direction = residual + _divide_where(unsolved, square, last) * direction
    return solution


def _orthogonalize(x: Tensor, basis: list[Tensor]) -> Tensor:
    """Return x ``(S, D)`` without its components along orthonormal vectors, each ``(S, D)``."""
    vectors = torch.stack(basis, dim=1)
    for _ in range(2):  # the second pass removes the rounding errors of the first
        x = x - ((vectors @ x[..., None]) * vectors).sum(dim=1)
    return x


def _best_length(loss_at: Callable[[float], Tensor]) -> Tensor:
    """Return the step length with the lowest loss per problem, ``(S,)``; 0 if all raise it."""
    lowest = loss_at(0.0)
    best = torch.zeros_like(lowest)
    for length in STEP_LENGTHS:
        loss = loss_at(length)
        best = torch.where(loss < lowest, length, best)
        lowest = torch.minimum(loss, lowest)
    return best


def _dot(x: Tensor, y: Tensor) -> Tensor:
    return (x * y).sum(dim=1)


def _divide_where(mask: Tensor, numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient ``(S, 1)`` where the mask is true, else 0; never NaN there."""
    return torch.where(mask, numerator / torch.where(mask, denominator, 1.0), 0.0)[:, None]
