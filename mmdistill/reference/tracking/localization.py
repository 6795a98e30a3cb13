"""Localizes targets in score maps and judges how reliable each position is; a mask per case, no branches.

DiMP, arXiv 1904.07220; the rules for distractors follow its published tracker.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmdistill.reference.tracking.settings import LocalizationSettings

Flag = Literal["normal", "hard_negative", "uncertain", "not_found"]
"""``normal``: one clear maximum. ``hard_negative``: the target beside a distractor, a sample to learn from.
``uncertain``: two maxima that may both be the target. ``not_found``: no maximum above the threshold."""

FLAGS: tuple[Flag, ...] = ("normal", "hard_negative", "uncertain", "not_found")
"""The flag of each number in ``Localization.flag``."""


class Localization(NamedTuple):
    """The positions of S targets.

    Attributes:
        position: x, y in the score map, ``(S, 2)``, cells.
        score: the score there, ``(S,)``.
        flag: the reliability, ``(S,)``, indices into ``FLAGS``.
    """

    position: Tensor
    score: Tensor
    flag: Tensor


def localize(score_maps: Tensor, last: Tensor, target_size: Tensor, settings: LocalizationSettings) -> Localization:
    """Localize targets in their score maps.

    Args:
        score_maps: ``(S, H', W')``.
        last: x, y of the last positions in the score map, ``(S, 2)``, cells.
        target_size: width and height, ``(S, 2)``, cells.
        settings: thresholds.
    """
    height, width = score_maps.shape[-2:]
    first, score = _maximum(score_maps, last.dtype)
    suppressed = suppress_neighborhood(score_maps, first, settings.neighborhood * target_size)
    second, second_score = _maximum(suppressed, last.dtype)
    reach = settings.reach * (height * width) ** 0.5 / 2
    near, second_near = ((torch.stack([first, second]) - last).norm(dim=-1) < reach).unbind()

    found = score >= settings.not_found  # not NaN
    rival = second_score > settings.rival * score
    uncertain = rival & ~(near ^ second_near)
    distractor = second_score > (settings.distractor * score).clamp(min=settings.not_found)
    at_second = rival & (second_near > near) & found

    flag = (rival | distractor).long()  # indices into FLAGS: normal, hard_negative
    flag = flag.masked_fill(uncertain, FLAGS.index("uncertain")).masked_fill(~found, FLAGS.index("not_found"))
    return Localization(
        torch.where(at_second[:, None], second, first), torch.where(at_second, second_score, score), flag
    )


def suppress_neighborhood(score_maps: Tensor, center: Tensor, size: Tensor) -> Tensor:
    """Return the score maps ``(S, H', W')`` with zeros in a rectangle of each.

    Args:
        score_maps: ``(S, H', W')``.
        center: x, y of the rectangle's center, ``(S, 2)``, whole cells.
        size: its width and height, ``(S, 2)``, cells; the half of it is rounded, and the bounds are inclusive.
    """
    radius = (size / 2).round()
    height, width = score_maps.shape[-2:]
    cells = torch.arange(max(height, width), device=center.device)
    inside = (cells - center[..., None]).abs() <= radius[..., None]
    return score_maps.masked_fill(inside[:, 1, :height, None] & inside[:, 0, None, :width], 0)


def _maximum(score_maps: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return x, y of each map's maximum, ``(S, 2)``, cells, and its value ``(S,)``."""
    score, index = score_maps.flatten(1).max(dim=1)
    width = score_maps.shape[-1]
    # In floats, exact: some ONNX runtimes lack the remainder of integers.
    cell = index.to(dtype)
    row = (cell / width).floor()
    return torch.stack([cell - width * row, row], dim=-1), score
