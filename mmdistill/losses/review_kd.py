"""Knowledge Review, Chen et al., CVPR 2021: the ABF chain with the hierarchical context loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mmdistill import _checks
from mmdistill._contracts import check_pyramids, named_levels
from mmdistill._inputs import check_alive, check_inputs, of_side, synchronized_statistics
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import mean_square, to_float32
from mmdistill.abf import ABFChain
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms, add

CONTEXT_SIZES = (4, 2, 1)
"""Positions per axis of the average-pooled maps, fine to coarse."""


def hierarchical_context_error(student: Tensor, teacher: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the hierarchical context loss (HCL) of Chen et al. for one level, a scalar.

    The mean squared error of the maps, and of the maps average-pooled to 4x4, 2x2 and 1x1, each with half the weight
    of the one before, over the sum of the weights: (1, 1/2, 1/4, 1/8) / 1.875. Height and width are pooled each on its
    own, and an axis that is no longer than the pooled one stays: a 3x17 map is pooled to 3x4, 2x2 and 1x1. A pooling
    that would leave both axes as they are is left out, and the next takes its weight: a 4x4 map has the weights
    (1, 1/2, 1/4) / 1.75, a 1x1 map the mean squared error alone.

    Args:
        student: ``(B, C, H, W)``.
        teacher: the same shape.
        mask: the positions that count, ``(B, 1, H, W)``. A cell of a pooled map is the average over those in it; one
            without any is left out.
    """
    # Pooling is linear: the difference of the pooled maps is the pooled difference.
    difference = to_float32(student) - to_float32(teacher)
    height, width = difference.shape[-2:]
    mask = None if mask is None else Mask.of(mask)
    if mask is not None:
        difference = mask.applied(difference)
    contexts = [(difference, mask)]
    for size in CONTEXT_SIZES:
        if size < max(height, width):
            cells = min(size, height), min(size, width)
            pooled = (
                (F.adaptive_avg_pool2d(difference, cells), None) if mask is None else mask.pooled(difference, cells)
            )
            contexts.append(pooled)
    weights = [0.5**halvings for halvings in range(len(contexts))]
    errors = [weight * mean_square(*context) for weight, context in zip(weights, contexts, strict=True)]
    return add(errors) / sum(weights)


class ReviewKDLoss(DistillationLoss):
    """Knowledge Review, Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021.

        L = sum over levels of HCL(ABF chain(student), teacher)

    Each level of the student, fused with all deeper ones, imitates the teacher's. The chain belongs to this loss
    and is trained with the student. The teacher's side is detached here.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        mid_channels: channels inside the ABF chain; the student's deepest level's if not given.
        frozen_levels: levels, counted from 1, whose student features are frozen: that they require no gradient is not
            warned about.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input; in training, a level with
            a single value per channel.

    Example:
        >>> import torch
        >>> from mmdistill.losses import ReviewKDLoss
        >>> student = [torch.randn(2, 8, 8, 12, requires_grad=True), torch.randn(2, 16, 4, 6, requires_grad=True)]
        >>> terms = ReviewKDLoss((8, 16), (32, 64))(student, [torch.randn(2, 32, 8, 12), torch.randn(2, 64, 4, 6)])
        >>> terms.total.backward()
        >>> list(terms)
        ['review']
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        mid_channels: int | None = None,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        student_channels, teacher_channels = _checks.channel_lists("ReviewKDLoss", student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.frozen_levels = _checks.frozen_levels("ReviewKDLoss", frozen_levels, len(student_channels))
        self.check_values = _checks.flag("ReviewKDLoss", "check_values", check_values)
        mid_channels = _checks.mid_channels("ReviewKDLoss", mid_channels, student_channels)
        self.chain = ABFChain(student_channels, teacher_channels, mid_channels)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``review``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, a map ``(B, C_teacher, H, W)``; detached here.
            mask: the positions that count, booleans ``(B, 1, H, W)``. One mask for all levels, or a sequence of one
                per level, with None for all positions of a level.
                The chain sees the maps whole.
        """
        self.watch_parameters()
        check_pyramids("ReviewKDLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("ReviewKDLoss", mask, student)
        self.chain.check_statistics("ReviewKDLoss", "student", student)
        inputs, synchronized = named_levels(student, teacher), synchronized_statistics(self)
        check_inputs(
            "ReviewKDLoss", inputs, finite=self.check_values, synchronized=synchronized, counts=mask_counts(masks)
        )
        check_alive("ReviewKDLoss", of_side("student", inputs), teacher, frozen=self.frozen_levels)
        levels = zip(self.chain(student), teacher, masks, strict=True)
        errors = [hierarchical_context_error(x, target.detach(), valid) for x, target, valid in levels]
        return Terms.summed("review", review=add(errors))
