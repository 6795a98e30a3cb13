"""Modality Distillation: the squared error, with more weight where student and teacher disagree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdistill._checks.arguments import check_bool, check_channel_lists, check_frozen_levels, check_number
from mmdistill._checks.shapes import check_pyramids, named_levels
from mmdistill._checks.values import check_gradients, check_inputs, select_side
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import sum_scalars, to_float32
from mmdistill.abf import apply_adaptor, make_adaptor
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms


def focal_weight(disagreement: Tensor, exponent: float, mask: Tensor | Mask | None = None) -> Tensor:
    """Return each position's weight: the disagreement to the power of ``exponent``, normalized to mean 1 per sample.

    The weight is detached. It is 1 everywhere if the sample has no disagreement.

    Args:
        disagreement: ``(B, H, W)``, at least 0.
        exponent: 0 for equal weights; larger for more focus.
        mask: booleans ``(B, 1, H, W)``, true where a position counts; elsewhere the disagreement must be 0.

    Returns:
        ``(B, H, W)``, of mean 1 over each sample's positions that count, 0 at other positions.
    """
    values = disagreement.detach()
    peak = values.amax(dim=(1, 2), keepdim=True)
    # Divided by the peak, so that for features of any scale no power overflows and no mean vanishes.
    relative = torch.where(peak > 0, values / peak, 1.0) ** exponent
    if mask is not None:
        mask = Mask.of(mask)
        relative = mask.applied(relative[:, None])
        mean = mask.mean(relative)[:, None, None]
        return relative[:, 0] / torch.where(mean > 0, mean, 1.0)
    return relative / relative.mean(dim=(1, 2), keepdim=True)


def focused_squared_error(
    student: Tensor, teacher: Tensor, exponent: float, mask: Tensor | Mask | None = None
) -> Tensor:
    """Return the mean squared error, each position weighed by ``focal_weight`` of its error; a scalar.

    Args:
        student: ``(B, C, H, W)``.
        teacher: the same shape.
        exponent: the focal weight's exponent; 0 gives the mean squared error.
        mask: booleans ``(B, 1, H, W)``, true where a position counts.
    """
    difference = to_float32(student) - to_float32(teacher)
    mask = None if mask is None else Mask.of(mask)
    if mask is not None:
        difference = mask.applied(difference)
    disagreement = difference.square().mean(dim=1)
    focused = focal_weight(disagreement, exponent, mask) * disagreement
    return focused.mean() if mask is None else mask.mean(focused[:, None]).mean()


class ModalityDistillationLoss(DistillationLoss):
    """Modality Distillation (MD).

        d = mean over channels of (adaptor(student) - teacher)^2, at each position
        L = sum over levels of mean of d * d^exponent / mean(d^exponent), the weight detached

    In the paper a one-stream student, which gets both modalities stacked at its input, imitates the fused features of
    a two-stream teacher, with more weight where the two disagree. The adaptors belong to this loss and are trained
    with the student. The teacher's side is detached here.

    These details are ours: the disagreement is that of the features; the weight is its power, of mean 1 over a
    sample's positions; the default exponent is 1; channels that differ get a 1x1 adaptor; levels are summed.

    Zhang et al., "Low-Cost Multispectral Scene Analysis With Modality Distillation", WACV 2022,
    https://doi.org/10.1109/WACV51458.2022.00339.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        exponent: the focal weight's exponent, at least 0; 0 weighs all positions alike.
        frozen_levels: levels, counted from 1, whose student features require no gradient; they give no warning.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input.
        ValueError: a negative exponent.

    Example:
        >>> import torch
        >>> from mmdistill.losses import ModalityDistillationLoss
        >>> student, teacher = torch.tensor([[[[4.0, 2.0]]]]), torch.ones(1, 1, 1, 2)
        >>> ModalityDistillationLoss((1,), (1,))([student], [teacher])["distillation"]  # (9*9 + 1*1) / 5 / 2
        tensor(8.2000)
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        exponent: float = 1.0,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        where = "ModalityDistillationLoss"
        student_channels, teacher_channels = check_channel_lists(where, student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.exponent = check_number(where, "exponent", exponent, low=0)
        self.frozen_levels = check_frozen_levels(where, frozen_levels, len(student_channels))
        self.check_values = check_bool(where, "check_values", check_values)
        self.adaptors = nn.ModuleList(map(make_adaptor, student_channels, teacher_channels))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``distillation``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, the fused map ``(B, C_teacher, H, W)``; detached here.
            mask: booleans ``(B, 1, H, W)``, true where a position counts: one for all levels, or a sequence with a mask
                or None (all positions) per level.
        """
        self.watch_parameters()
        check_pyramids("ModalityDistillationLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("ModalityDistillationLoss", mask, student)
        inputs = named_levels({"student": student, "teacher": teacher})
        check_inputs("ModalityDistillationLoss", inputs, finite=self.check_values, counts=mask_counts(masks))
        learning = select_side("student", inputs)
        check_gradients("ModalityDistillationLoss", learning, teacher, frozen=self.frozen_levels)
        levels = zip(self.adaptors, student, teacher, masks, strict=True)
        errors = [
            focused_squared_error(apply_adaptor(adaptor, features), target.detach(), self.exponent, valid)
            for adaptor, features, target, valid in levels
        ]
        return Terms.summed("md", distillation=sum_scalars(errors))
