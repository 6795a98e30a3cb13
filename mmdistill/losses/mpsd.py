"""Multi-Path Selection Distillation, CMD eq. 7-11."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdistill.alignment import adaptor
from mmdistill.errors import check_aligned, check_alive, check_finite, check_levels, check_map
from mmdistill.fusion import FusedPaths, check_fused_paths
from mmdistill.reductions import mean_squared_error, mean_squared_error_per_sample, widen
from mmdistill.terms import Terms, add


def selection_penalty(path_errors: Tensor, weights: Tensor) -> Tensor:
    """Return CMD eq. 8-10 for one level, averaged over samples, a scalar.

    The best path lambda has the smallest error, the preferred path nu the largest weight; the penalty is
    ``abs(error_lambda * weight_nu - error_lambda * weight_lambda)``, zero where they are the same path.

    Args:
        path_errors: ``(3, B)``, each path's error against the teacher's fused map.
        weights: ``(B, 3)``.
    """
    best = path_errors.argmin(dim=0)
    error = path_errors.gather(0, best[None])[0]
    preferred_weight = weights.amax(dim=1)
    best_weight = weights.gather(1, best[:, None])[:, 0]
    return (error * (preferred_weight - best_weight)).abs().mean()


class MPSDLoss(nn.Module):
    """Multi-Path Selection Distillation, CMD eq. 7-11.

        L_fus = sum over levels of MSE(teacher fused, student fused)
        L_p   = sum over levels of |L_lambda w_nu - L_lambda w_lambda|, per sample, then averaged

    Where channels differ, a training-only 1x1 adaptor brings the student's fused map and its three paths to the
    teacher's channels, the same one for all four; it belongs to this loss and is trained with the student.
    The teacher's side is detached here.

    Args:
        student_channels: channels of the student's fused map per level.
        teacher_channels: channels of the teacher's fused map per level.
        detach_path_loss: whether L_lambda only scales the penalty; otherwise shrinking it is rewarded too.
        check_values: whether NaN and infinity in the inputs are looked for when the loss isn't finite.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input.

    Example:
        >>> import torch
        >>> from mmdistill import MPSDFusion, MPSDLoss, Pair
        >>> fused = MPSDFusion(8)(Pair(torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)))
        >>> terms = MPSDLoss((8,), (32,))([fused], [torch.randn(2, 32, 4, 4)])
        >>> list(terms)
        ['fusion', 'penalty']
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        detach_path_loss: bool = True,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        check_levels("MPSDLoss", "teacher_channels", teacher_channels, len(student_channels))
        self.student_channels, self.teacher_channels = tuple(student_channels), tuple(teacher_channels)
        self.detach_path_loss, self.check_values = detach_path_loss, check_values
        self.adaptors = nn.ModuleList(map(adaptor, student_channels, teacher_channels))

    def forward(self, student: Sequence[FusedPaths], teacher: Sequence[Tensor]) -> Terms:
        """Return the terms ``fusion`` and ``penalty``.

        Args:
            student: per level, what its MPSD block returned.
            teacher: per level, the fused map ``(B, C_teacher, H, W)``; detached here.
        """
        self._check(student, teacher)
        check_alive("MPSDLoss", [level.fused for level in student], teacher)
        fusion: list[Tensor] = []
        penalty: list[Tensor] = []
        for adapt, (fused, paths, weights), attached in zip(self.adaptors, student, teacher, strict=True):
            target = attached.detach()
            fusion.append(mean_squared_error(adapt(fused), target))
            errors = torch.stack([mean_squared_error_per_sample(adapt(path), target) for path in paths.unbind()])
            if self.detach_path_loss:
                errors = errors.detach()
            penalty.append(selection_penalty(errors, _per_path(widen(weights))))
        terms = Terms.summed(fusion=add(fusion), penalty=add(penalty))
        if self.check_values:
            names = {f"student fused level {n}": level.fused for n, level in enumerate(student, start=1)}
            names |= {f"teacher fused level {n}": level for n, level in enumerate(teacher, start=1)}
            check_finite("MPSDLoss", terms.total, names)
        return terms

    def _check(self, student: Sequence[FusedPaths], teacher: Sequence[Tensor]) -> None:
        check_levels("MPSDLoss", "student", student, len(self.student_channels))
        check_levels("MPSDLoss", "teacher", teacher, len(self.teacher_channels))
        for number, (fused, target) in enumerate(zip(student, teacher, strict=True), start=1):
            side = f"student level {number}"
            check_fused_paths("MPSDLoss", side, fused, self.student_channels[number - 1])
            side = f"teacher level {number}"
            check_map("MPSDLoss", side, target, channels=self.teacher_channels[number - 1])
            check_aligned("MPSDLoss", side, target, fused.fused, "student")


def _per_path(weights: Tensor) -> Tensor:
    return weights if weights.ndim == 2 else weights.mean(dim=2)
