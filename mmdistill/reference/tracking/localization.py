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
        displacement: x, y from the score map's center, ``(S, 2)``, cells.
        score: the score there, ``(S,)``.
        flag: the reliability, ``(S,)``, indices into ``FLAGS``.
    """

    displacement: Tensor
    score: Tensor
    flag: Tensor


def localize(score_maps: Tensor, last: Tensor, target_size: Tensor, settings: LocalizationSettings) -> Localization:
    """Localize targets in their score maps.

    Args:
        score_maps: ``(S, H', W')``.
        last: x, y of the last positions, from the score map's center, ``(S, 2)``, cells.
        target_size: width and height, ``(S, 2)``, cells.
        settings: thresholds.
    """
    height, width = score_maps.shape[-2:]
    # Created on the device: the host would wait for the upload of a tensor.
    center = torch.stack([torch.full_like(last[:, 0], (side - 1) / 2) for side in (width, height)], dim=-1)
    peak, score = _maximum(score_maps, last)
    suppressed = suppress_neighborhood(score_maps, peak, settings.neighborhood * target_size)
    second_peak, second_score = _maximum(suppressed, last)
    first, second = peak - center, second_peak - center
    reach = settings.reach * (height * width) ** 0.5 / 2
    near, second_near = ((displacement - last).norm(dim=-1) < reach for displacement in (first, second))

    # NaN is not found.
    not_found = ~(score >= settings.not_found)
    rival = second_score > settings.rival * score
    uncertain = rival & (near == second_near)
    distractor = (second_score > settings.distractor * score) & (second_score > settings.not_found)
    at_second = rival & ~near & second_near & ~not_found

    flag = torch.where(rival | distractor, FLAGS.index("hard_negative"), FLAGS.index("normal"))
    flag = flag.masked_fill(uncertain, FLAGS.index("uncertain")).masked_fill(not_found, FLAGS.index("not_found"))
    return Localization(
        torch.where(at_second[:, None], second, first), torch.where(at_second, second_score, score), flag
    )


def suppress_neighborhood(score_maps: Tensor, center: Tensor, size: Tensor) -> Tensor:
    """Return the score maps ``(S, H', W')`` with zeros in a rectangle of each.

    Args:
        score_maps: ``(S, H', W')``.
        center: x, y of the rectangle's center, ``(S, 2)``, cells.
        size: its width and height, ``(S, 2)``, cells; the bounds are rounded and inclusive.
    """
    low, high = (center - size / 2).round(), (center + size / 2).round()
    inside = [
        (cells >= low[:, axis, None]) & (cells <= high[:, axis, None])
        for axis, cells in enumerate(torch.arange(n, device=center.device) for n in reversed(score_maps.shape[-2:]))
    ]
    return score_maps.masked_fill(inside[1][:, :, None] & inside[0][:, None, :], 0)


def _maximum(score_maps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, y of each map's maximum, ``(S, 2)``, cells, in the dtype of ``like``, and its value ``(S,)``."""
    score, index = score_maps.flatten(1).max(dim=1)
    width = score_maps.shape[-1]
    return torch.stack([index % width, index // width], dim=-1).to(like.dtype), score
