"""Modality Distillation after Zhang et al., WACV 2022: the squared error, focused where the two disagree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill._contracts import check_pyramids, named_levels
from mmdistill._inputs import check_alive, check_inputs, of_side
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import to_float32
from mmdistill.abf import adaptor, apply_adaptor
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms, add


def focal_weight(disagreement: Tensor, exponent: float, mask: Tensor | Mask | None = None) -> Tensor:
    """Return the disagreement to the power of ``exponent``, divided by its mean over a sample's positions.

    Detached: it weighs an error and is not itself something to learn. Where a sample agrees everywhere it is 1.

    Args:
        disagreement: ``(B, H, W)``, nowhere below 0.
        exponent: 0 for no focus, larger for a sharper one.
        mask: the positions that count, ``(B, 1, H, W)``; the disagreement is 0 at the others.

    Returns:
        ``(B, H, W)``, of mean 1 over each sample's positions that count, 0 at the others.
    """
    values = disagreement.detach()
    peak = values.amax(dim=(1, 2), keepdim=True)
    # Relative to the peak, no power overflows and no mean vanishes, whatever the scale of the features.
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
    """Return the squared error, weighted by its own focus per position, averaged, a scalar.

    Args:
        student: ``(B, C, H, W)``.
        teacher: the same shape.
        exponent: of the focus; 0 gives the mean squared error.
        mask: the positions that count, ``(B, 1, H, W)``.
    """
    difference = to_float32(student) - to_float32(teacher)
    mask = None if mask is None else Mask.of(mask)
    if mask is not None:
        difference = mask.applied(difference)
    disagreement = difference.square().mean(dim=1)
    focused = focal_weight(disagreement, exponent, mask) * disagreement
    return focused.mean() if mask is None else mask.mean(focused[:, None]).mean()


class ModalityDistillationLoss(DistillationLoss):
    """Modality Distillation, after Zhang et al., "Low-cost Multispectral Scene Analysis ...", WACV 2022.

        d = mean over channels of (adaptor(student) - teacher)^2, at each position
        L = sum over levels of mean of d * d^exponent / mean(d^exponent), the weight detached

    The paper's: a student that sees both modalities at little cost (stacked at its input, in one stream) imitates
    the fused features of a two-stream teacher, with more weight where the two disagree. Inferred here, and to be kept
    in mind when figures are compared with the paper's: the disagreement is that of the features, the focus its
    power normalized to mean 1 over each sample's positions, the default exponent 1, a 1x1 adaptor for channels
    that differ, and the plain sum over levels. The adaptors belong to this loss and are trained with the student.
    The teacher's side is detached here.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        exponent: of the focus, at least 0; 0 weighs all positions alike.
        frozen_levels: levels, counted from 1, whose student features are frozen: that they require no gradient is not
            warned about.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

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
        student_channels, teacher_channels = _checks.channel_lists(where, student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.exponent = _checks.number(where, "exponent", exponent, low=0)
        self.frozen_levels = _checks.frozen_levels(where, frozen_levels, len(student_channels))
        self.check_values = _checks.flag(where, "check_values", check_values)
        self.adaptors = nn.ModuleList(map(adaptor, student_channels, teacher_channels))

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None) -> Terms:
        """Return the term ``distillation``.

        Args:
            student: per level, a map ``(B, C_student, H, W)``.
            teacher: per level, the fused map ``(B, C_teacher, H, W)``; detached here.
            mask: the positions that count, booleans ``(B, 1, H, W)``. One mask for all levels, or a sequence of one
                per level, with None for all positions of a level.
        """
        self.watch_parameters()
        check_pyramids("ModalityDistillationLoss", student, teacher, self.student_channels, self.teacher_channels)
        masks = level_masks("ModalityDistillationLoss", mask, student)
        inputs = named_levels(student, teacher)
        check_inputs("ModalityDistillationLoss", inputs, finite=self.check_values, counts=mask_counts(masks))
        check_alive("ModalityDistillationLoss", of_side("student", inputs), teacher, frozen=self.frozen_levels)
        levels = zip(self.adaptors, student, teacher, masks, strict=True)
        errors = [
            focused_squared_error(apply_adaptor(adapt, x), target.detach(), self.exponent, valid)
            for adapt, x, target, valid in levels
        ]
        return Terms.summed("md", distillation=add(errors))
