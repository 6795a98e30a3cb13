"""How a block selects among its paths: the entropy of the weights, each share, and whether one path has it all."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill._contracts import check_floating
from mmdistill._transforms import has_values
from mmdistill.errors import DeadTermWarning, ShapeError, warn
from mmdistill.reductions import widen

COLLAPSE_LIMIT = 0.99
"""The selection is collapsed where one path has at least this weight for every sample."""

CHECK_INTERVAL = 100
"""Training calls of a block between two checks of its selection."""

MIN_COLLAPSED_CHECKS = 3
"""Checks in a row that must find the same path before a block warns."""


class PathSelection(NamedTuple):
    """How a batch's samples select among P paths, as plain numbers.

    Attributes:
        mean_weights: each path's weight, mean over samples.
        entropy: of each sample's weights, mean over samples, from 0 (one path alone) to 1 (all alike).
        entropy_of_mean: of ``mean_weights``, on the same scale. Above ``entropy`` where samples select differently.
        preferred: each path's share of the samples whose largest weight it has.
        collapsed: the number of the path, from 0, that has at least 0.99 of the weight for every sample; or None.
    """

    mean_weights: tuple[float, ...]
    entropy: float
    entropy_of_mean: float
    preferred: tuple[float, ...]
    collapsed: int | None


def path_entropy(weights: Tensor) -> Tensor:
    """Return the entropy of each sample's path weights, ``(B,)``, in units of the largest, log P.

    0: one path has all the weight. 1: all paths weigh the same. Of weights per channel it is the mean over channels.
    Nothing is read from the device.

    Args:
        weights: ``FusedPaths.weights``: ``(B, P)`` or ``(B, P, C)``, P at least 2, not negative, of sum 1 over P.

    Raises:
        ShapeError: another shape, or no floating point.

    Example:
        >>> import torch
        >>> from mmdistill import path_entropy
        >>> path_entropy(torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
        tensor([0.0000, 0.6309])
    """
    _check("path_entropy", weights)
    entropy: Tensor = torch.special.entr(weights).sum(dim=1) / math.log(weights.shape[1])
    return entropy if entropy.ndim == 1 else entropy.mean(dim=1)


def path_selection(weights: Tensor) -> PathSelection:
    """Return how the samples of a batch select among their paths: to be logged now and then; reads from the device.

    Of weights per channel, the mean over channels counts, but for ``entropy`` and ``collapsed``, which look at each
    channel.

    Args:
        weights: as in ``path_entropy``. Concatenate several batches for steadier figures.

    Raises:
        ShapeError: another shape, or no floating point.

    Example:
        >>> import torch
        >>> from mmdistill import path_selection
        >>> found = path_selection(torch.tensor([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]]))
        >>> found.preferred, found.entropy, found.collapsed
        ((0.0, 1.0, 0.0), 0.0, 1)
    """
    _check("path_selection", weights)
    given = widen(weights.detach())
    by_path = given if given.ndim == 2 else given.mean(dim=2)
    mean = by_path.mean(dim=0)
    preferred = torch.nn.functional.one_hot(by_path.argmax(dim=1), by_path.shape[1]).to(mean.dtype).mean(dim=0)
    numbers = torch.cat([mean, preferred, path_entropy(given).mean()[None], path_entropy(mean[None]), _smallest(given)])
    paths, found = len(mean), numbers.tolist()
    return PathSelection(
        tuple(found[:paths]),
        found[2 * paths],
        found[2 * paths + 1],
        tuple(found[paths : 2 * paths]),
        _collapsed(found[2 * paths + 2 :]),
    )


class SelectionCheck:
    """Warns when a block's selection has collapsed. Reads the device at every hundredth training call only."""

    def __init__(self) -> None:
        self._calls = self._found_in_a_row = 0
        self._path: int | None = None
        self._warned = False

    def __call__(self, weights: Tensor) -> None:
        """Count a training call; at every hundredth check its weights, ``(B, P)`` or ``(B, P, C)``."""
        if self._warned or not torch.is_grad_enabled() or not has_values((weights,)):
            return
        self._calls += 1
        if self._calls % CHECK_INTERVAL:
            return
        path = _collapsed(_smallest(weights.detach()).tolist())
        self._found_in_a_row = self._found_in_a_row + 1 if path == self._path else 1
        self._path = path
        if path is not None and self._found_in_a_row >= MIN_COLLAPSED_CHECKS:
            self._warned = True
            warn(
                f"MPSDFusion: the selection has collapsed: path {path} of {weights.shape[1]} (0 gated sum, 1 product, "
                f"2 difference) has weight {COLLAPSE_LIMIT} or more for every sample, so the others learn nothing. "
                'Train with MPSDLoss, or take normalize="layer_norm"',
                DeadTermWarning,
            )


def _smallest(weights: Tensor) -> Tensor:
    """Return each path's smallest weight over samples and channels, ``(P,)``."""
    return weights.amin(dim=0 if weights.ndim == 2 else (0, 2))


def _collapsed(least: list[float]) -> int | None:
    return next((path for path, weight in enumerate(least) if weight >= COLLAPSE_LIMIT), None)


def _check(where: str, weights: Tensor) -> None:
    if not isinstance(weights, Tensor):
        raise ShapeError(where, "weights", "type", expected="a tensor (B, P)", got=type(weights).__name__)
    if weights.ndim not in (2, 3):
        raise ShapeError(where, "weights", "axes", expected="2 (B, P) or 3 (B, P, C)", got=tuple(weights.shape))
    for axis, least in (("batch", 1), ("paths", 2), ("channels", 1))[: weights.ndim]:
        size = weights.shape[("batch", "paths", "channels").index(axis)]
        if size < least:
            raise ShapeError(where, "weights", axis, expected=f"at least {least}", got=size)
    check_floating(where, "weights", weights)
