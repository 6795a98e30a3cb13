"""Specific-Common Feature Distillation, CMD eq. 3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

from einops import rearrange
from torch import Tensor, nn

from mmdistill._checks.arguments import (
    check_bool,
    check_channel_lists,
    check_choice,
    check_frozen_levels,
    check_mid_channels,
    check_number,
    check_sequence,
)
from mmdistill._checks.shapes import check_aligned, check_pair, check_pyramid, check_same_shape, named_levels
from mmdistill._checks.values import (
    check_gradients,
    check_inputs,
    check_modalities_differ,
    select_side,
    synchronized_batch_norm,
)
from mmdistill._execution import runs_eagerly, to_channels_last
from mmdistill._masks import LevelMasks, Mask, level_masks, mask_counts
from mmdistill._numerics import Reduction, squared_error_per_sample, sum_scalars, sum_squared_error, to_float32
from mmdistill._subsampling import (
    MAX_SUBSAMPLING,
    Positions,
    Size,
    draw_grid,
    draw_tile,
    draw_traced_grid,
    grid_strides,
)
from mmdistill.abf import ABFChain
from mmdistill.base import DistillationLoss
from mmdistill.errors import ShapeError
from mmdistill.interaction import Interaction, interact
from mmdistill.pair import Pair, stacked
from mmdistill.terms import Terms

Levels = Pair[Sequence[Tensor]]
"""Both modalities' feature maps ``(B, C, H, W)``, shallow to deep."""


class SCFDLoss(DistillationLoss):
    """Specific-Common Feature Distillation (SCFD), CMD eq. 3.

        L_SCFD = sum over levels of |teacher rgb - student rgb|^2 + |teacher tir - student tir|^2

    The squares are summed over channels and positions, and averaged over samples.
    At each level the teacher's modalities interact: SEM enhances their specific features, CEM and addition their
    common features. An ABF chain brings the student's maps to the teacher's channels, where they imitate the result.
    The teacher's side is detached here. The chain's parameters belong to this loss and are trained with the student.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level, shallow to deep.
        mid_channels: channels inside the ABF chain; the student's deepest level's if not given (256 for ResNet18).
        interaction: the interaction at each level, ``"sem"``, ``"cem"`` or ``"add"``.
        shared: whether both modalities, stacked on the batch axis, share one ABF chain.
        reduction: the ``"sum"`` or the ``"mean"`` of a level's squared errors over channels and positions. A mean is
            ``C * H * W`` times smaller, so it needs another alpha (docs/losses.md, "Which alpha and beta").
        sampling: the fraction of positions, 1/n, at which the chain's 3x3 convolutions and the errors are computed in
            training mode. The positions are drawn at each call. The estimate has no bias for given batch norm
            statistics.
        frozen_levels: levels, counted from 1, whose student features require no gradient; they give no warning.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: wrong number of levels, channels, batch or spatial size; NaN in an input; in training, a level with
            a single value per channel.
        ValueError: an unknown interaction or reduction; a sampling that is not 1/n.

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
        reduction: Reduction = "sum",
        sampling: float = 1.0,
        frozen_levels: Sequence[int] = (),
        check_values: bool = True,
    ) -> None:
        super().__init__()
        student_channels, teacher_channels = check_channel_lists("SCFDLoss", student_channels, teacher_channels)
        interaction = check_sequence("SCFDLoss", "interaction", interaction, _interaction)
        if len(interaction) != len(student_channels):
            expected = f"{len(student_channels)}, one for each level, such as interaction=('sem', ..., 'cem')"
            raise ShapeError("SCFDLoss", "interaction", "levels", expected=expected, got=len(interaction))
        self.student_channels, self.teacher_channels = student_channels, teacher_channels
        self.interaction, self.shared = interaction, check_bool("SCFDLoss", "shared", shared)
        self.reduction: Reduction = check_choice("SCFDLoss", "reduction", reduction, get_args(Reduction))
        self.frozen_levels = check_frozen_levels("SCFDLoss", frozen_levels, len(student_channels))
        self.check_values = check_bool("SCFDLoss", "check_values", check_values)
        self.sampling = check_number("SCFDLoss", "sampling", sampling, low=1 / MAX_SUBSAMPLING, high=1)
        self.strides = grid_strides(self.sampling)
        mid_channels = check_mid_channels("SCFDLoss", mid_channels, student_channels)
        names = ("both",) if shared else Pair._fields
        self.chains = nn.ModuleDict(
            {name: ABFChain(student_channels, teacher_channels, mid_channels) for name in names}
        )

    def forward(
        self, student: Levels, teacher: Levels, *, mask: LevelMasks | Pair[LevelMasks | None] | None = None
    ) -> Terms:
        """Return the terms ``specific`` (SEM levels) and ``common`` (other levels); a term without levels is omitted.

        Args:
            student: both modalities' levels, maps ``(B, C_student, H, W)``.
            teacher: both modalities' levels, maps ``(B, C_teacher, H, W)``, of the student's sizes; detached here.
            mask: booleans ``(B, 1, H, W)``, true where a position counts: one for all levels, or a sequence with a mask
                or None (all positions) per level.
                A ``Pair`` of these if RGB and TIR differ. The chain sees the student's whole maps.
        """
        self.watch_parameters()
        self._check(student, teacher)
        masks, counts = _masks(mask, student)
        inputs, synchronized = named_levels(_sides(student, teacher)), synchronized_batch_norm(self)
        check_inputs("SCFDLoss", inputs, finite=self.check_values, synchronized=synchronized, counts=counts)
        learning, teaching = select_side("student", inputs), select_side("teacher", inputs)
        check_gradients("SCFDLoss", learning, teaching.values(), frozen=self.frozen_levels)
        check_modalities_differ("SCFDLoss", "student", student[0][0], student[1][0])
        check_modalities_differ("SCFDLoss", "teacher", teacher[0][0], teacher[1][0])
        positions = self._draw(student) if self.sampling < 1 and self.training else None
        aligned = self._align(student, positions)
        parts: dict[str, list[Tensor]] = {}
        for level, interaction in enumerate(self.interaction):
            subset = positions[level] if positions else None
            target = interact(interaction, _teacher_level(teacher, level, subset))
            rgb, tir = (_mask_at(modality[level], subset) for modality in masks)
            student_level = Pair(aligned.rgb[level], aligned.tir[level])
            error = self._error(target, student_level, Pair(rgb, tir), _size(teacher[0][level]))
            if subset is not None:
                error = error * subset.count
            parts.setdefault("specific" if interaction == "sem" else "common", []).append(error)
        return Terms.summed("scfd", **{name: sum_scalars(errors) for name, errors in parts.items()})

    def _draw(self, student: Levels) -> list[Positions]:
        """Return random positions of each level, the same for both modalities."""
        sizes = [_size(features) for features in student[0]]
        if not runs_eagerly(student[0]):
            return [draw_traced_grid(size, self.strides, student[0][0].device) for size in sizes]
        positions: list[Positions] = [draw_grid(size, self.strides) for size in sizes]
        # With a tile, the shallowest level's 1x1 convolution is subsampled as well.
        deeper = sizes[min(1, len(sizes) - 1)]
        if sizes[0][0] % deeper[0] == 0 and sizes[0][1] % deeper[1] == 0:
            positions[0] = draw_tile(sizes[0], deeper, self.strides)
        return positions

    def _align(self, student: Levels, positions: Sequence[Positions] | None) -> Pair[list[Tensor]]:
        def run(name: str, levels: Sequence[Tensor]) -> list[Tensor]:
            chain = cast(ABFChain, self.chains[name])
            return chain(levels) if positions is None else chain.forward_sampled(levels, positions)

        if not self.shared:
            return Pair(run("rgb", student[0]), run("tir", student[1]))
        both = [rearrange(x, "(m b) c h w -> m b c h w", m=2) for x in run("both", stacked(student))]
        return Pair([aligned[0] for aligned in both], [aligned[1] for aligned in both])

    def _error(self, target: Pair[Tensor], aligned: Pair[Tensor], masks: Pair[Mask | None], size: Size) -> Tensor:
        """Return the sum of both modalities' errors at a level; of maps at some positions, their part of the error.

        Args:
            target: the teacher's maps ``(B, C, h, w)``.
            aligned: the student's maps.
            masks: the masks at these positions.
            size: height and width of the whole map.
        """
        batch, channels = target.rgb.shape[:2]
        divisor = batch if self.reduction == "sum" else batch * channels * size[0] * size[1]
        if self.reduction == "sum" or (masks.rgb is None and masks.tir is None):
            return sum_scalars(list(map(sum_squared_error, target, aligned, masks))) / divisor
        return sum_scalars(
            [
                sum_squared_error(teacher, student) / divisor
                if mask is None
                else squared_error_per_sample(teacher, student, mask, reduction="mean").mean()
                for teacher, student, mask in zip(target, aligned, masks, strict=True)
            ]
        )

    def _check(self, student: Levels, teacher: Levels) -> None:
        for side, pair, channels in (
            ("student", student, self.student_channels),
            ("teacher", teacher, self.teacher_channels),
        ):
            check_pair("SCFDLoss", side, pair)
            for modality, levels in zip(Pair._fields, pair, strict=True):
                check_pyramid("SCFDLoss", f"{side} {modality}", levels, channels)
        for level in range(len(self.interaction)):
            number = level + 1
            for side, pair in (("student", student), ("teacher", teacher)):
                check_same_shape(f"SCFDLoss {side} level {number}", "tir", pair[1][level], pair[0][level], "rgb")
            check_aligned("SCFDLoss", f"teacher level {number}", teacher[0][level], student[0][level], "student")
        if not self.shared:
            for name, levels in zip(Pair._fields, student, strict=True):
                cast(ABFChain, self.chains[name]).check_statistics("SCFDLoss", f"student {name}", levels)


def _interaction(where: str, name: str, value: object) -> Interaction:
    return cast(Interaction, check_choice(where, name, value, get_args(Interaction)))


def _teacher_level(teacher: Levels, level: int, positions: Positions | None) -> Pair[Tensor]:
    """Return both modalities' maps of a level at these positions: detached, float32 or wider, channels last."""
    maps = (modality[level].detach() for modality in teacher)
    selected = maps if positions is None else map(positions.select, maps)
    return Pair(*(to_float32(to_channels_last(features)) for features in selected))


def _masks(
    mask: LevelMasks | Pair[LevelMasks | None] | None, student: Levels
) -> tuple[Pair[list[Mask | None]], dict[str, Tensor]]:
    """Return both modalities' masks per level, and their numbers of positions by name."""
    if not isinstance(mask, Pair):
        both = level_masks("SCFDLoss", mask, student[0])
        return Pair(both, both), mask_counts(both)
    sides = {f"mask {name}": (part, levels) for name, part, levels in zip(Pair._fields, mask, student, strict=True)}
    masks = [level_masks("SCFDLoss", part, levels, side=side) for side, (part, levels) in sides.items()]
    counts = {
        name: count
        for side, levels in zip(sides, masks, strict=True)
        for name, count in mask_counts(levels, side).items()
    }
    return Pair(*masks), counts


def _mask_at(mask: Mask | None, positions: Positions | None) -> Mask | None:
    return mask if mask is None or positions is None else mask.at(positions)


def _size(features: Tensor) -> Size:
    return features.shape[2], features.shape[3]


def _sides(student: Levels, teacher: Levels) -> dict[str, Sequence[Tensor]]:
    return {
        f"{side} {modality}": levels
        for side, pair in (("student", student), ("teacher", teacher))
        for modality, levels in zip(Pair._fields, pair, strict=True)
    }
