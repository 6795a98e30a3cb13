"""Multi-Path Selection Distillation, CMD eq. 7-11."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from mmdistill._checks.arguments import check_bool, check_channel_lists, check_choice, check_frozen_levels
from mmdistill._checks.shapes import check_aligned, check_levels, check_map
from mmdistill._checks.values import check_gradients, check_inputs, select_side
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import (
    Reduction,
    squared_error,
    squared_error_per_sample,
    sum_scalars,
    to_float32,
    without_float16,
)
from mmdistill.abf import apply_adaptor, make_adaptor
from mmdistill.base import DistillationLoss
from mmdistill.fusion.paths import FusedPaths, check_fused_paths
from mmdistill.terms import Terms


def selection_penalty(path_errors: Tensor, weights: Tensor) -> Tensor:
    """Return the penalty of CMD eq. 8-10 for one level, averaged over samples, a scalar.

    Path lambda has the smallest error, path nu the largest weight. The penalty is
    ``abs(error_lambda * weight_nu - error_lambda * weight_lambda)``, 0 if they are the same path.

    Args:
        path_errors: ``(P, B)``, each path's error to the teacher's fused map.
        weights: ``(B, P)``.
    """
    best = path_errors.argmin(dim=0)
    error = path_errors.gather(0, best[None])[0]
    preferred_weight = weights.amax(dim=1)
    best_weight = weights.gather(1, best[:, None])[:, 0]
    return (error * (preferred_weight - best_weight)).abs().mean()


class MPSDLoss(DistillationLoss):
    """Multi-Path Selection Distillation (MPSD), CMD eq. 7-11.

        L_fus = sum over levels of |teacher fused - student fused|^2
        L_p   = sum over levels of |L_lambda w_nu - L_lambda w_lambda|

    L_lambda is the squared error of the best path. All squares are summed over channels and positions, and both terms
    are averaged over samples.
    If channels differ, a 1x1 adaptor brings a level's fused map and its paths to the teacher's channels. It belongs
    to this loss and is trained with the student. A level with a single path has no part in L_p. The teacher's side is
    detached here.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        student_channels: channels of the student's fused map per level.
        teacher_channels: channels of the teacher's fused map per level.
        reduction: the ``"sum"`` or the ``"mean"`` of squared errors, L_lambda's too, over channels and positions. A
            mean is ``C * H * W`` times smaller, so it needs another alpha (docs/losses.md, "Which alpha and beta").
        detach_path_loss: whether L_lambda carries no gradient and only scales the penalty.
        frozen_levels: levels, counted from 1, whose student features require no gradient; they give no warning.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input.
        ValueError: an unknown reduction.

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
        reduction: Reduction = "sum",
        detach_path_loss: bool = True,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        student_channels, teacher_channels = check_channel_lists("MPSDLoss", student_channels, teacher_channels)
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.reduction: Reduction = check_choice("MPSDLoss", "reduction", reduction, get_args(Reduction))
        self.detach_path_loss = check_bool("MPSDLoss", "detach_path_loss", detach_path_loss)
        self.frozen_levels = check_frozen_levels("MPSDLoss", frozen_levels, len(student_channels))
        self.check_values = check_bool("MPSDLoss", "check_values", check_values)
        self.adaptors = nn.ModuleList(map(make_adaptor, student_channels, teacher_channels))

    def forward(
        self, student: Sequence[FusedPaths], teacher: Sequence[Tensor], *, mask: LevelMasks | None = None
    ) -> Terms:
        """Return the terms ``fusion`` and ``penalty``; without a level of several paths the penalty is omitted.

        Args:
            student: per level, the output of an MPSD block or another fusion.
            teacher: per level, the fused map ``(B, C_teacher, H, W)``; detached here.
            mask: booleans ``(B, 1, H, W)``, true where a position counts: one for all levels, or a sequence with a mask
                or None (all positions) per level.
        """
        self.watch_parameters()
        self._check(student, teacher)
        masks = level_masks("MPSDLoss", mask, [level.fused for level in student], like_side="student fused")
        inputs = _named(student, teacher)
        check_inputs("MPSDLoss", inputs, finite=self.check_values, counts=mask_counts(masks))
        check_gradients("MPSDLoss", self._learning_inputs(inputs), teacher, frozen=self.frozen_levels)
        fusion: list[Tensor] = []
        penalty: list[Tensor] = []
        with without_float16(teacher[0].device.type):
            for adapt, level, teacher_map, valid in zip(self.adaptors, student, teacher, masks, strict=True):
                target = teacher_map.detach()
                adapted = apply_adaptor(adapt, level.fused)
                fusion.append(squared_error(adapted, target, valid, reduction=self.reduction))
                if level.paths.shape[0] > 1:
                    errors = self._path_errors(adapt, level.paths, target, valid)
                    penalty.append(selection_penalty(errors, _per_path(to_float32(level.weights))))
        parts = {"fusion": fusion, "penalty": penalty}
        return Terms.summed("mpsd", **{name: sum_scalars(levels) for name, levels in parts.items() if levels})

    def _learning_inputs(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the student inputs that need gradient; with ``detach_path_loss`` the paths do not."""
        student = select_side("student", inputs)
        return {name: x for name, x in student.items() if not (self.detach_path_loss and "paths" in name)}

    def _path_errors(self, adapt: nn.Module, paths: Tensor, target: Tensor, mask: Mask | None) -> Tensor:
        """Return each path's error per sample, ``(P, B)``."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.detach_path_loss):
            errors = [
                squared_error_per_sample(apply_adaptor(adapt, path), target, mask, reduction=self.reduction)
                for path in paths.unbind()
            ]
        # Detached too, because no_grad does not stop forward-mode differentiation.
        return torch.stack(errors).detach() if self.detach_path_loss else torch.stack(errors)

    def _check(self, student: Sequence[FusedPaths], teacher: Sequence[Tensor]) -> None:
        check_levels("MPSDLoss", "student", student, len(self.student_channels))
        check_levels("MPSDLoss", "teacher", teacher, len(self.teacher_channels))
        for number, (fused, target) in enumerate(zip(student, teacher, strict=True), start=1):
            side = f"student level {number}"
            check_fused_paths("MPSDLoss", side, fused, self.student_channels[number - 1])
            side = f"teacher fused level {number}"
            check_map("MPSDLoss", side, target, channels=self.teacher_channels[number - 1])
            check_aligned("MPSDLoss", side, target, fused.fused, "student")


def _per_path(weights: Tensor) -> Tensor:
    return weights if weights.ndim == 2 else weights.mean(dim=2)


def _named(student: Sequence[FusedPaths], teacher: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return all inputs by name; a single path is the fused map itself and is left out."""
    names: dict[str, Tensor] = {}
    for number, (level, target) in enumerate(zip(student, teacher, strict=True), start=1):
        read = FusedPaths._fields if level.paths.shape[0] > 1 else ("fused",)
        names.update({f"student {part} level {number}": getattr(level, part) for part in read})  # 2.6 traces no |=
        names[f"teacher fused level {number}"] = target
    return names
