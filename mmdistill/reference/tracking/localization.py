"""What score maps say of where the targets are, and whether to believe it; a mask for each case, no branches."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from mmdistill.reference.tracking.settings import LocalizationSettings

Flag = Literal["normal", "hard_negative", "uncertain", "not_found"]
"""``normal``: one clear maximum. ``hard_negative``: the target beside something like it, which is worth learning from.
``uncertain``: two places that could both be the target. ``not_found``: no place could."""

FLAGS: tuple[Flag, ...] = ("normal", "hard_negative", "uncertain", "not_found")
"""What the numbers in ``Localization.flag`` stand for."""


class Localization(NamedTuple):
    """Where the targets of S sequences are.

    Attributes:
        displacement: x, y from the score map's center, ``(S, 2)``, cells.
        score: the score there, ``(S,)``.
        flag: whether to believe it, ``(S,)``, places in ``FLAGS``.
    """

    displacement: Tensor
    score: Tensor
    flag: Tensor


def localize(score_maps: Tensor, last: Tensor, target_size: Tensor, settings: LocalizationSettings) -> Localization:
    """Find the targets in their score maps.

    Args:
        score_maps: ``(S, H', W')``.
        last: x, y of where the targets were, from the score map's center, ``(S, 2)``, cells.
        target_size: width and height, ``(S, 2)``, cells.
        settings: thresholds.
    """
    height, width = score_maps.shape[-2:]
    # Made on the device: a tensor of host values would be waited for.
    center = torch.stack([torch.full_like(last[:, 0], (side - 1) / 2) for side in (width, height)], dim=-1)
    place, score = _maximum(score_maps, last)
    second_place, second_score = _maximum(
        without_neighborhood(score_maps, place, settings.neighborhood * target_size), last
    )
    first, second = place - center, second_place - center
    reach = settings.reach * (height * width) ** 0.5 / 2
    near, second_near = ((way - last).norm(dim=-1) < reach for way in (first, second))

    # Not a number is not above the threshold either.
    not_found = ~(score >= settings.not_found)
    rival = second_score > settings.rival * score
    uncertain = rival & (near == second_near)
    beside = (second_score > settings.distractor * score) & (second_score > settings.not_found)
    at_second = rival & ~near & second_near & ~not_found

    flag = torch.where(rival | beside, FLAGS.index("hard_negative"), FLAGS.index("normal"))
    flag = flag.masked_fill(uncertain, FLAGS.index("uncertain")).masked_fill(not_found, FLAGS.index("not_found"))
    return Localization(
        torch.where(at_second[:, None], second, first), torch.where(at_second, second_score, score), flag
    )


def without_neighborhood(score_maps: Tensor, place: Tensor, size: Tensor) -> Tensor:
    """Return the score maps ``(S, H', W')`` with zeros around a place in each.

    Args:
        score_maps: ``(S, H', W')``.
        place: x, y, ``(S, 2)``, cells.
        size: width and height of the neighborhood, ``(S, 2)``, cells; its bounds are rounded, and belong to it.
    """
    low, high = (place - size / 2).round(), (place + size / 2).round()
    inside = [
        (cells >= low[:, axis, None]) & (cells <= high[:, axis, None])
        for axis, cells in enumerate(torch.arange(n, device=place.device) for n in reversed(score_maps.shape[-2:]))
    ]
    return score_maps.masked_fill(inside[1][:, :, None] & inside[0][:, None, :], 0)


def _maximum(score_maps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return x, y of each map's maximum, ``(S, 2)`` of the type of ``like``, cells, and its value ``(S,)``."""
    score, index = score_maps.flatten(1).max(dim=1)
    width = score_maps.shape[-1]
    return torch.stack([index % width, index // width], dim=-1).to(like.dtype), score
