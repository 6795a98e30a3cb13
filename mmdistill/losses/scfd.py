"""Specific-Common Feature Distillation, CMD eq. 3."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast, get_args

from einops import rearrange
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill._contracts import check_aligned, check_levels, check_map, check_pair, check_same_shape
from mmdistill._inputs import check_alive, check_different, check_inputs, of_side, synchronized_statistics
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import mean_squared_error, to_float32
from mmdistill._subsampling import MAX_STEPS, Positions, Size, draw_grid, draw_tile, steps, trace_grid
from mmdistill._transforms import channels_last, runs_eagerly
from mmdistill.abf import ABFChain
from mmdistill.base import DistillationLoss
from mmdistill.errors import ShapeError
from mmdistill.interaction import Interaction, interact
from mmdistill.pair import Pair, stacked
from mmdistill.terms import Terms, add

Levels = Pair[Sequence[Tensor]]
"""Both modalities' feature maps ``(B, C, H, W)``, shallow to deep."""


class SCFDLoss(DistillationLoss):
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
        sampling: the share of positions, 1/n, at which the chain's 3x3 convolutions and the errors are evaluated in
            training mode, drawn anew at each call: an estimate without bias for given batch norm statistics.
        frozen_levels: levels, counted from 1, whose student features are frozen: that they require no gradient is not
            warned about.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input; in training, a level with
            a single value per channel.
        ValueError: an unknown interaction; a sampling that is not one over a whole number.

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
        sampling: float = 1.0,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        student_channels, teacher_channels = _checks.channel_lists("SCFDLoss", student_channels, teacher_channels)
        interaction = _checks.each("SCFDLoss", "interaction", interaction, _interaction)
        if len(interaction) != len(student_channels):
            expected = f"{len(student_channels)}, one for each level, such as interaction=('sem', ..., 'cem')"
            raise ShapeError("SCFDLoss", "interaction", "levels", expected=expected, got=len(interaction))
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.interaction, self.shared = interaction, _checks.flag("SCFDLoss", "shared", shared)
        self.frozen_levels = _checks.frozen_levels("SCFDLoss", frozen_levels, len(student_channels))
        self.check_values = _checks.flag("SCFDLoss", "check_values", check_values)
        self.sampling = _checks.number("SCFDLoss", "sampling", sampling, low=1 / MAX_STEPS, high=1)
        self.steps = steps(self.sampling)
        mid_channels = _checks.mid_channels("SCFDLoss", mid_channels, student_channels)
        names = ("both",) if shared else Pair._fields
        self.chains = nn.ModuleDict(
            {name: ABFChain(student_channels, teacher_channels, mid_channels) for name in names}
        )

    def forward(
        self, student: Levels, teacher: Levels, *, mask: LevelMasks | Pair[LevelMasks | None] | None = None
    ) -> Terms:
        """Return the terms ``specific`` (SEM levels) and ``common`` (the others); a kind no level has is left out.

        Args:
            student: both modalities' levels, maps ``(B, C_student, H, W)``.
            teacher: both modalities' levels, maps ``(B, C_teacher, H, W)``, of the student's sizes; detached here.
            mask: the positions that count, booleans ``(B, 1, H, W)``. One mask for all levels, or a sequence of one
                per level, with None for all positions of a level.
                A ``Pair`` of these where RGB and TIR differ. The interaction is position by position; the chain sees
                the student's maps whole.
        """
        self.watch_parameters()
        self._check(student, teacher)
        masks, counts = _masks(mask, student)
        inputs, synchronized = dict(_named(student, teacher)), synchronized_statistics(self)
        check_inputs("SCFDLoss", inputs, finite=self.check_values, synchronized=synchronized, counts=counts)
        check_alive(
            "SCFDLoss", of_side("student", inputs), of_side("teacher", inputs).values(), frozen=self.frozen_levels
        )
        check_different("SCFDLoss", "student", student[0][0], student[1][0])
        check_different("SCFDLoss", "teacher", teacher[0][0], teacher[1][0])
        positions = self._draw(student) if self.sampling < 1 and self.training else None
        aligned = self._align(student, positions)
        parts: dict[str, list[Tensor]] = {}
        for level, interaction in enumerate(self.interaction):
            where = positions[level] if positions else None
            target = interact(interaction, _teacher_level(teacher, level, where))
            rgb, tir = (_at(modality[level], where) for modality in masks)
            error = mean_squared_error(target.rgb, aligned.rgb[level], rgb)
            error = error + mean_squared_error(target.tir, aligned.tir[level], tir)
            if where is not None:
                error = error * where.factor(_size(teacher[0][level]))
            parts.setdefault("specific" if interaction == "sem" else "common", []).append(error)
        return Terms.summed("scfd", **{name: add(errors) for name, errors in parts.items()})

    def _draw(self, student: Levels) -> list[Positions]:
        """Return the positions of each level, the same for both modalities."""
        sizes = [_size(features) for features in student[0]]
        if not runs_eagerly(student[0]):
            return [trace_grid(size, self.steps, student[0][0].device) for size in sizes]
        positions: list[Positions] = [draw_grid(size, self.steps) for size in sizes]
        # A tile spares the shallowest level's 1x1 part as well.
        deeper = sizes[min(1, len(sizes) - 1)]
        if sizes[0][0] % deeper[0] == 0 and sizes[0][1] % deeper[1] == 0:
            positions[0] = draw_tile(sizes[0], deeper, self.steps)
        return positions

    def _align(self, student: Levels, positions: Sequence[Positions] | None) -> Pair[list[Tensor]]:
        def run(name: str, levels: Sequence[Tensor]) -> list[Tensor]:
            chain = cast(ABFChain, self.chains[name])
            return chain(levels) if positions is None else chain.sampled(levels, positions)

        if not self.shared:
            return Pair(run("rgb", student[0]), run("tir", student[1]))
        both = [rearrange(x, "(m b) c h w -> m b c h w", m=2) for x in run("both", stacked(student))]
        return Pair([aligned[0] for aligned in both], [aligned[1] for aligned in both])

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
        if not self.shared:
            for name, levels in zip(Pair._fields, student, strict=True):
                cast(ABFChain, self.chains[name]).check_statistics("SCFDLoss", f"student {name}", levels)


def _interaction(where: str, name: str, value: object) -> Interaction:
    return cast(Interaction, _checks.one_of(where, name, value, get_args(Interaction)))


def _teacher_level(teacher: Levels, level: int, where: Positions | None) -> Pair[Tensor]:
    """Return both modalities' maps at a level and at these positions, detached, wide, laid out as the chain's."""
    maps = (modality[level].detach() for modality in teacher)
    taken = maps if where is None else map(where.take, maps)
    return Pair(*(to_float32(channels_last(features)) for features in taken))


def _masks(
    mask: LevelMasks | Pair[LevelMasks | None] | None, student: Levels
) -> tuple[Pair[list[Mask | None]], dict[str, Tensor]]:
    """Return both modalities' masks, checked, and their counts."""
    if not isinstance(mask, Pair):
        both = level_masks("SCFDLoss", mask, student[0])
        return Pair(both, both), mask_counts(both)
    sides = {f"mask {name}": (given, levels) for name, given, levels in zip(Pair._fields, mask, student, strict=True)}
    masks = [level_masks("SCFDLoss", given, levels, side=side) for side, (given, levels) in sides.items()]
    named = {
        name: count
        for side, found in zip(sides, masks, strict=True)
        for name, count in mask_counts(found, side).items()
    }
    return Pair(*masks), named


def _at(mask: Mask | None, where: Positions | None) -> Mask | None:
    return mask if mask is None or where is None else mask.at(where)


def _size(features: Tensor) -> Size:
    return features.shape[2], features.shape[3]


def _named(student: Levels, teacher: Levels) -> Iterator[tuple[str, Tensor]]:
    for side, pair in (("student", student), ("teacher", teacher)):
        for modality, levels in zip(Pair._fields, pair, strict=True):
            for number, features in enumerate(levels, start=1):
                yield f"{side} {modality} level {number}", features
