"""FitNets' hints: the student's maps imitate the teacher's after a trained regressor."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mmdistill._checks.arguments import argument_error, check_bool, check_channel_lists, check_frozen_levels, check_int
from mmdistill._checks.shapes import check_pyramids, named_levels
from mmdistill._checks.values import check_gradients, check_inputs, select_side
from mmdistill._masks import LevelMasks, level_masks, mask_counts
from mmdistill._numerics import mean_squared_error, sum_scalars
from mmdistill.abf import Convolution, apply_adaptor, make_adaptor
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms

MAX_KERNEL = 255
"""Largest kernel; wider than any feature map."""


class FitNetsLoss(DistillationLoss):
    """FitNets' hint loss.

        L = sum over levels of MSE(regressor(student), teacher)

    The regressor is a convolution to the teacher's channels. It belongs to this loss and is trained with the student.
    The teacher's side is detached here.

    The paper uses one level, half the summed squared error, and a kernel that spans the difference of the maps' sizes.
    Here there are any number of levels, the mean, and maps of one size; see ``mmdistill.resize.resize_levels``.

    Romero et al., "FitNets: Hints for Thin Deep Nets", ICLR 2015, eq. 3, https://arxiv.org/abs/1412.6550.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        kernel: the regressor's kernel size, odd. With 1, a level whose channels agree has no regressor.
        frozen_levels: levels, counted from 1, whose student features require no gradient; they give no warning.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

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
        student_channels, teacher_channels = check_channel_lists("FitNetsLoss", student_channels, teacher_channels)
        kernel = check_int("FitNetsLoss", "kernel", kernel, high=MAX_KERNEL)
        if kernel % 2 == 0:
            raise argument_error("FitNetsLoss", "kernel", "an odd number such as 1 or 3", kernel)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.frozen_levels = check_frozen_levels("FitNetsLoss", frozen_levels, len(student_channels))
        self.check_values = check_bool("FitNetsLoss", "check_values", check_values)
        self.regressors = nn.ModuleList(
            make_adaptor(student, teacher)
            if kernel == 1
            else Convolution(student, teacher, kernel, padding=kernel // 2)
            for student, teacher in zip(student_channels, teacher_channels, strict=True)
        )

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``hint``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, a map ``(B, C_teacher, H, W)``; detached here.
            mask: booleans ``(B, 1, H, W)``, true where a position counts: one for all levels, or a sequence with a mask
                or None (all positions) per level.
        """
        self.watch_parameters()
        check_pyramids("FitNetsLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("FitNetsLoss", mask, student)
        inputs = named_levels({"student": student, "teacher": teacher})
        check_inputs("FitNetsLoss", inputs, finite=self.check_values, counts=mask_counts(masks))
        check_gradients("FitNetsLoss", select_side("student", inputs), teacher, frozen=self.frozen_levels)
        levels = zip(self.regressors, student, teacher, masks, strict=True)
        hints = [
            mean_squared_error(apply_adaptor(regressor, features), target.detach(), valid)
            for regressor, features, target, valid in levels
        ]
        return Terms.summed("fitnets", hint=sum_scalars(hints))
