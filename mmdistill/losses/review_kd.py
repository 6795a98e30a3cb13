"""Knowledge Review: an ABF chain with the hierarchical context loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from mmdistill._checks.arguments import check_bool, check_channel_lists, check_frozen_levels, check_mid_channels
from mmdistill._checks.shapes import check_pyramids, named_levels
from mmdistill._checks.values import check_gradients, check_inputs, select_side, synchronized_batch_norm
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import mean_square, sum_scalars, to_float32
from mmdistill.abf import ABFChain
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms

CONTEXT_SIZES = (4, 2, 1)
"""Height and width of the average-pooled maps, fine to coarse."""


def hierarchical_context_error(student: Tensor, teacher: Tensor, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the hierarchical context loss (HCL) of Chen et al., CVPR 2021, for one level, a scalar.

    It is the weighted mean of the squared errors of the maps and of the maps average-pooled to 4x4, 2x2 and 1x1. Each
    has half the weight of the one before: (1, 1/2, 1/4, 1/8) / 1.875.

    An axis that is not longer than the pooled size is not pooled: a 3x17 map becomes 3x4, 2x2 and 1x1. A pooling that
    changes neither axis is left out: a 4x4 map has the weights (1, 1/2, 1/4) / 1.75, a 1x1 map has only the first.

    Args:
        student: ``(B, C, H, W)``.
        teacher: the same shape.
        mask: booleans ``(B, 1, H, W)``, true where a position counts. A pooled cell is the mean over its positions
            that count; a cell without any is left out.
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
    return sum_scalars(errors) / sum(weights)


class ReviewKDLoss(DistillationLoss):
    """Knowledge Review.

        L = sum over levels of HCL(ABF chain(student), teacher)

    Each level of the student, fused with all deeper levels, imitates the teacher's level. The chain belongs to this
    loss and is trained with the student. The teacher's side is detached here.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, sections 3.2 and 3.3,
    https://arxiv.org/abs/2104.09044.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        mid_channels: channels inside the ABF chain; the student's deepest level's if not given.
        frozen_levels: levels, counted from 1, whose student features require no gradient; they give no warning.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

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
        student_channels, teacher_channels = check_channel_lists("ReviewKDLoss", student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.frozen_levels = check_frozen_levels("ReviewKDLoss", frozen_levels, len(student_channels))
        self.check_values = check_bool("ReviewKDLoss", "check_values", check_values)
        mid_channels = check_mid_channels("ReviewKDLoss", mid_channels, student_channels)
        self.chain = ABFChain(student_channels, teacher_channels, mid_channels)

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``review``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, a map ``(B, C_teacher, H, W)``; detached here.
            mask: booleans ``(B, 1, H, W)``, true where a position counts: one for all levels, or a sequence with a mask
                or None (all positions) per level.
                The chain sees the whole maps.
        """
        self.watch_parameters()
        check_pyramids("ReviewKDLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("ReviewKDLoss", mask, student)
        self.chain.check_statistics("ReviewKDLoss", "student", student)
        inputs, synchronized = named_levels({"student": student, "teacher": teacher}), synchronized_batch_norm(self)
        check_inputs(
            "ReviewKDLoss", inputs, finite=self.check_values, synchronized=synchronized, counts=mask_counts(masks)
        )
        check_gradients("ReviewKDLoss", select_side("student", inputs), teacher, frozen=self.frozen_levels)
        levels = zip(self.chain(student), teacher, masks, strict=True)
        errors = [hierarchical_context_error(x, target.detach(), valid) for x, target, valid in levels]
        return Terms.summed("review", review=sum_scalars(errors))
