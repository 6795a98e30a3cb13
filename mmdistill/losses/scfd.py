"""Specific-Common Feature Distillation, CMD eq. 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from mmdistill.alignment import ABFChain
from mmdistill.errors import (
    check_aligned,
    check_alive,
    check_finite,
    check_levels,
    check_map,
    check_pair,
    check_same_shape,
)
from mmdistill.interaction import Interaction, interact
from mmdistill.pair import Pair
from mmdistill.reductions import mean_squared_error
from mmdistill.terms import Terms, add

Levels = Pair[Sequence[Tensor]]
"""Both modalities' feature maps ``(B, C, H, W)``, shallow to deep."""


class SCFDLoss(nn.Module):
    """Specific-Common Feature Distillation, CMD eq. 3.

    At each level the teacher's two modalities interact (SEM keeps what is specific to each, CEM and addition
    what is common); the student's, brought to the teacher's channels by an ABF chain, imitate the result.

        L_SCFD = sum over levels of MSE(teacher rgb, student rgb) + MSE(teacher tir, student tir)

    The teacher's side is detached here. The chain's parameters belong to this loss and are trained with the student.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        mid_channels: channels inside the ABF chain; the student's deepest level's if not given (256 for ResNet18).
        interaction: which interaction at each level, ``"sem"``, ``"cem"`` or ``"add"``.
        shared: one ABF chain for both modalities (stacked on the batch axis) instead of one for each.
        check_values: whether NaN and infinity in the inputs are looked for when the loss isn't finite.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input.

    Example:
        >>> import torch
        >>> from mmdistill import Pair, SCFDLoss
        >>> loss = SCFDLoss((8, 16), (32, 64), interaction=("sem", "cem"))
        >>> student = [torch.randn(2, 8, 8, 8), torch.randn(2, 16, 4, 4)]
        >>> teacher = [torch.randn(2, 32, 8, 8), torch.randn(2, 64, 4, 4)]
        >>> terms = loss(Pair(student, student), Pair(teacher, teacher))
        >>> sorted(terms)
        ['common', 'specific']
        >>> terms.total.backward()
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        mid_channels: int | None = None,
        interaction: Sequence[Interaction] = ("sem", "sem", "sem", "cem"),
        shared: bool = False,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        check_levels("SCFDLoss", "teacher_channels", teacher_channels, len(student_channels))
        check_levels("SCFDLoss", "interaction", interaction, len(student_channels))
        for name in interaction:
            if name not in get_args(Interaction):
                raise ValueError(f"SCFDLoss: interaction must be of {get_args(Interaction)}; got {name!r}")
        self.student_channels, self.teacher_channels = tuple(student_channels), tuple(teacher_channels)
        self.interaction, self.shared, self.check_values = tuple(interaction), shared, check_values
        mid_channels = student_channels[-1] if mid_channels is None else mid_channels
        names = ("both",) if shared else Pair._fields
        self.chains = nn.ModuleDict(
            {name: ABFChain(student_channels, teacher_channels, mid_channels) for name in names}
        )

    def forward(self, student: Levels, teacher: Levels) -> Terms:
        """Return the terms ``specific`` (SEM levels) and ``common`` (the others); a kind no level has is left out.

        Args:
            student: both modalities' levels, maps ``(B, C_student, H, W)``.
            teacher: both modalities' levels, maps ``(B, C_teacher, H, W)``, of the student's sizes; detached here.
        """
        self._check(student, teacher)
        check_alive("SCFDLoss", [*student[0], *student[1]], [*teacher[0], *teacher[1]])
        aligned = self._align(student)
        parts: dict[str, list[Tensor]] = {}
        for level, interaction in enumerate(self.interaction):
            detached = Pair(teacher[0][level].detach(), teacher[1][level].detach())
            target = interact(interaction, detached)
            error = mean_squared_error(target.rgb, aligned.rgb[level])
            error = error + mean_squared_error(target.tir, aligned.tir[level])
            parts.setdefault("specific" if interaction == "sem" else "common", []).append(error)
        terms = Terms.summed(**{name: add(errors) for name, errors in parts.items()})
        if self.check_values:
            check_finite("SCFDLoss", terms.total, dict(_named(student, teacher)))
        return terms

    def _align(self, student: Levels) -> Pair[list[Tensor]]:
        if not self.shared:
            return Pair(self.chains["rgb"](student[0]), self.chains["tir"](student[1]))
        stacked = [torch.cat(modalities) for modalities in zip(*student, strict=True)]
        rgb, tir = zip(*(aligned.chunk(2) for aligned in self.chains["both"](stacked)), strict=True)
        return Pair(list(rgb), list(tir))

    def _check(self, student: Levels, teacher: Levels) -> None:
        sides = {"student": (student, self.student_channels), "teacher": (teacher, self.teacher_channels)}
        for side, (pair, channels) in sides.items():
            check_pair("SCFDLoss", side, pair)
            for modality, levels in zip(Pair._fields, pair, strict=True):
                check_levels("SCFDLoss", f"{side} {modality}", levels, len(channels))
                for number, (features, width) in enumerate(zip(levels, channels, strict=True), start=1):
                    check_map("SCFDLoss", f"{side} {modality} level {number}", features, channels=width)
        for level in range(len(self.interaction)):
            number = level + 1
            for side, pair in (("student", student), ("teacher", teacher)):
                check_same_shape(f"SCFDLoss {side} level {number}", "tir", pair[1][level], pair[0][level], "rgb")
            check_aligned("SCFDLoss", f"teacher level {number}", teacher[0][level], student[0][level], "student")


def _named(student: Levels, teacher: Levels) -> Iterator[tuple[str, Tensor]]:
    for side, pair in (("student", student), ("teacher", teacher)):
        for modality, levels in zip(Pair._fields, pair, strict=True):
            for number, features in enumerate(levels, start=1):
                yield f"{side} {modality} level {number}", features
