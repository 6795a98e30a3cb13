"""Hints of FitNets, Romero et al., ICLR 2015."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmdistill import _checks
from mmdistill._contracts import check_pyramids, named_levels
from mmdistill._inputs import check_alive, check_inputs, of_side
from mmdistill._masks import LevelMasks, level_masks, mask_counts
from mmdistill._numerics import mean_squared_error
from mmdistill.abf import Convolution, adaptor, apply_adaptor
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms, add

MAX_KERNEL = 255
"""Wider than the maps that are compared."""


class FitNetsLoss(DistillationLoss):
    """Hint-based distillation, Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015.

        L = sum over levels of MSE(regressor(student), teacher)

    The regressor is a convolution to the teacher's channels; it belongs to this loss, is trained with the student
    and is thrown away after. The paper hints at one level, with half the summed squared error, and its regressor's
    kernel spans the difference between the two maps' sizes; here any number of levels, the mean, and maps of one size
    (``mmdistill.resize.resize_levels`` brings them there). The teacher's side is detached here.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        kernel: the regressor's kernel, an odd number; 1 leaves a level as it is where the channels agree.
        frozen_levels: levels, counted from 1, whose student features are frozen: that they require no gradient is not
            warned about.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input.
        ValueError: an even kernel.

    Example:
        >>> import torch
        >>> from mmdistill.losses import FitNetsLoss
        >>> student = [torch.randn(2, 8, 8, 12, requires_grad=True)]
        >>> terms = FitNetsLoss((8,), (32,))(student, [torch.randn(2, 32, 8, 12)])
        >>> terms.total.backward()
        >>> list(terms)
        ['hint']
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        kernel: int = 1,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        student_channels, teacher_channels = _checks.channel_lists("FitNetsLoss", student_channels, teacher_channels)
        kernel = _checks.whole("FitNetsLoss", "kernel", kernel, high=MAX_KERNEL)
        if kernel % 2 == 0:
            raise _checks.refuse("FitNetsLoss", "kernel", "an odd number such as 1 or 3", kernel)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.frozen_levels = _checks.frozen_levels("FitNetsLoss", frozen_levels, len(student_channels))
        self.check_values = _checks.flag("FitNetsLoss", "check_values", check_values)
        self.regressors = nn.ModuleList(
            adaptor(ours, theirs) if kernel == 1 else Convolution(ours, theirs, kernel, padding=kernel // 2)
            for ours, theirs in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``hint``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, a map ``(B, C_teacher, H, W)``; detached here.
            mask: the positions that count, booleans ``(B, 1, H, W)``. One mask for all levels, or a sequence of one
                per level, with None for all positions of a level.
        """
        self.watch_parameters()
        check_pyramids("FitNetsLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("FitNetsLoss", mask, student)
        inputs = named_levels(student, teacher)
        check_inputs("FitNetsLoss", inputs, finite=self.check_values, counts=mask_counts(masks))
        check_alive("FitNetsLoss", of_side("student", inputs), teacher, frozen=self.frozen_levels)
        levels = zip(self.regressors, student, teacher, masks, strict=True)
        hints = [
            mean_squared_error(apply_adaptor(regress, ours), theirs.detach(), valid)
            for regress, ours, theirs, valid in levels
        ]
        return Terms.summed("fitnets", hint=add(hints))
