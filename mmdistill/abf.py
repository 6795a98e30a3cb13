"""Alignment of the student's channels with the teacher's: the ABF, the ABF chain, the 1x1 adaptor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from mmdistill._abf_kernels import abf_attention
from mmdistill._checks.arguments import check_bool, check_channel_lists, check_channels
from mmdistill._checks.shapes import check_device, check_levels, check_map
from mmdistill._checks.values import check_batch_norm_size, check_batch_norm_state
from mmdistill._execution import as_normal_tensor, to_channels_last
from mmdistill._numerics import autocasting, cast_by_autocast
from mmdistill._subsampling import Positions, Tile
from mmdistill.errors import ShapeError


class Convolution(nn.Conv2d):
    """A convolution whose weight's gradient has the weight's strides, for features of any layout.

    For channels-last features PyTorch's gradient has other strides than a contiguous 1x1 weight, and DDP warns that
    gradient and bucket differ.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution."""
        result: Tensor = self._conv_forward(input, self.weight_for_gradient(), self.bias)
        return result

    def weight_for_gradient(self) -> Tensor:
        """Return the weight to convolve with."""
        weight = self.weight
        # A channels-last weight, and a larger kernel, get the right gradient anyway.
        if weight.stride(-1) != 1 or (self.kernel_size != (1, 1) and self.in_channels > 1):
            return weight
        # Two reshapes make the gradient contiguous.
        return weight.flatten(1).view(weight.shape)


class _AlignmentConvolution(Convolution):
    """A convolution of an ABF, without bias, initialized as in Knowledge Review."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)

    def reset_parameters(self) -> None:
        """Initialize the weight."""
        nn.init.kaiming_uniform_(self.weight, a=1)

    def weight_for_gradient(self) -> Tensor:
        """Return the weight; a 3x3 weight in channels-last layout, as the maps, so that it is converted only once."""
        weight = super().weight_for_gradient()
        return weight if self.kernel_size == (1, 1) or self.in_channels == 1 else to_channels_last(weight)


class ABF(nn.Module):
    """Attention Based Fusion (ABF) of a level with the deeper levels, CMD section 3.3.

    A 1x1 convolution brings this level to ``mid_channels``. The deeper result is resized (nearest) to this level, and a
    two-channel sigmoid attention weighs and adds the two. A 3x3 convolution brings the sum to ``out_channels``. Both
    convolutions have batch norm and are initialized with ``kaiming_uniform_(a=1)``, as in Knowledge Review.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, section 3.3, https://arxiv.org/abs/2104.09044.
    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        in_channels: channels of this level in the student.
        mid_channels: channels of the result that is passed to the next shallower level.
        out_channels: channels of this level in the teacher.
        fuse: whether there is a deeper result; false for the deepest level.

    Raises:
        ShapeError: wrong channels or batch; a deeper result that is missing or unexpected; in training, a single value
            per channel, from which batch norm cannot take statistics.
        ValueError: channels out of range.

    Example:
        >>> import torch
        >>> from mmdistill import ABF
        >>> aligned, carried = ABF(64, 16, 256)(torch.zeros(2, 64, 8, 12), torch.zeros(2, 16, 4, 6))
        >>> tuple(aligned.shape), tuple(carried.shape)
        ((2, 256, 8, 12), (2, 16, 8, 12))
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int, fuse: bool = True) -> None:
        super().__init__()
        in_channels = check_channels("ABF", "in_channels", in_channels)
        mid_channels = check_channels("ABF", "mid_channels", mid_channels)
        out_channels = check_channels("ABF", "out_channels", out_channels)
        fuse = check_bool("ABF", "fuse", fuse)
        self.in_channels, self.mid_channels, self.out_channels = in_channels, mid_channels, out_channels
        self.reduce = nn.Sequential(_AlignmentConvolution(in_channels, mid_channels, 1), nn.BatchNorm2d(mid_channels))
        self.attention = nn.Conv2d(2 * mid_channels, 2, 1) if fuse else None
        self.expand = nn.Sequential(_AlignmentConvolution(mid_channels, out_channels, 3), nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor, deeper: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the aligned level, and the carried map for the next shallower level.

        Args:
            x: this level, ``(B, in_channels, H, W)``.
            deeper: the carried map of the next deeper level, ``(B, mid_channels, h, w)``, any size.

        Returns:
            aligned ``(B, out_channels, H, W)``, carried ``(B, mid_channels, H, W)``.
        """
        self._check(x, deeper)
        carried = self.carry(x, deeper)
        return self.expand(carried), carried

    def carry(self, x: Tensor, deeper: Tensor | None) -> Tensor:
        """Return the carried map, ``(B, mid_channels, H, W)``: the 1x1 part, without checks."""
        convolution = cast(nn.Conv2d, self.reduce[0])
        # Channels last, because the following steps are faster so on CPUs.
        carried: Tensor = self.reduce(to_channels_last(match_dtype(as_normal_tensor(x), convolution.weight)))
        if self.attention is None or deeper is None:
            return carried
        assert self.attention.bias is not None
        return abf_attention(carried, as_normal_tensor(deeper), self.attention.weight, self.attention.bias)

    def expand_at(self, carried: Tensor, positions: Positions) -> Tensor:
        """Return the aligned level at these positions, ``(B, out_channels, h, w)``: the 3x3 part, without checks."""
        convolution, normalization = cast(Convolution, self.expand[0]), self.expand[1]
        aligned: Tensor = normalization(positions.convolve(carried, convolution.weight_for_gradient()))
        return aligned

    def _check(self, x: Tensor, deeper: Tensor | None) -> None:
        check_map("ABF", "input", x, channels=self.in_channels)
        if (deeper is not None) != (self.attention is not None):
            expected = "none (fuse=False)" if self.attention is None else "a map (fuse=True)"
            got = "none" if deeper is None else "a map"
            raise ShapeError("ABF", "deeper", "input", expected=expected, got=got)
        if deeper is not None:
            check_map("ABF", "deeper", deeper, channels=self.mid_channels)
            if deeper.shape[0] != x.shape[0]:
                expected = f"{x.shape[0]} as input"
                raise ShapeError("ABF", "deeper", "batch", expected=expected, got=deeper.shape[0])
            check_device("ABF", "deeper", deeper, x, "input")
        check_device("ABF", "weights", cast(nn.Conv2d, self.reduce[0]).weight, x, "input")
        self.check_statistics("ABF", "input", x)
        if deeper is not None:
            check_batch_norm_state("ABF", "deeper", self, deeper)

    def check_statistics(self, where: str, side: str, x: Tensor) -> None:
        """Refuse inputs from which batch norm in training cannot take statistics."""
        check_batch_norm_state(where, side, self, x)
        for norm in (self.reduce[1], self.expand[1]):
            check_batch_norm_size(where, side, norm, x)


class ABFChain(nn.Module):
    """One ABF per level, run from the deepest to the shallowest, CMD section 3.3.

    Chen et al., "Distilling Knowledge via Knowledge Review", CVPR 2021, section 3.3, https://arxiv.org/abs/2104.09044.
    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        student_channels: channels per level, shallow to deep.
        teacher_channels: channels per level of the result, shallow to deep.
        mid_channels: channels of the maps that are passed from level to level.

    Raises:
        ShapeError: channel lists of different length, wrong number of levels, wrong maps, or, in training, a level
            with a single value per channel.

    Example:
        >>> import torch
        >>> from mmdistill import ABFChain
        >>> chain = ABFChain((8, 16), (32, 64), mid_channels=8)
        >>> [tuple(a.shape) for a in chain([torch.zeros(2, 8, 8, 8), torch.zeros(2, 16, 4, 4)])]
        [(2, 32, 8, 8), (2, 64, 4, 4)]
    """

    def __init__(self, student_channels: Sequence[int], teacher_channels: Sequence[int], mid_channels: int) -> None:
        super().__init__()
        student_channels, teacher_channels = check_channel_lists("ABFChain", student_channels, teacher_channels)
        mid_channels = check_channels("ABFChain", "mid_channels", mid_channels)
        deepest = len(student_channels) - 1
        self.levels = nn.ModuleList(
            ABF(student, mid_channels, teacher, fuse=level != deepest)
            for level, (student, teacher) in enumerate(zip(student_channels, teacher_channels, strict=True))
        )

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the aligned levels ``(B, teacher channels, H, W)``, shallow to deep."""
        self._check(features)
        aligned: list[Tensor] = []
        carried: Tensor | None = None
        for fusion, x in zip(reversed(self.levels), reversed(features), strict=True):
            output, carried = fusion(x, carried)
            aligned.append(output)
        return aligned[::-1]

    def forward_sampled(self, features: Sequence[Tensor], positions: Sequence[Positions]) -> list[Tensor]:
        """Return the aligned levels at some positions of each, ``(B, teacher channels, h, w)``, shallow to deep.

        Only the shallowest level may have a ``Tile``: deeper levels pass on their whole maps.
        """
        self._check(features)
        check_levels("ABFChain", "positions", positions, len(self.levels))
        aligned: list[Tensor] = []
        carried: Tensor | None = None
        for level, x, subset in zip(reversed(self.levels), reversed(features), reversed(positions), strict=True):
            fusion = cast(ABF, level)
            if isinstance(subset, Tile):
                x = subset.crop(x)
                carried = None if carried is None else subset.crop_deeper(carried)
            carried = fusion.carry(x, carried)
            aligned.append(fusion.expand_at(carried, subset))
        return aligned[::-1]

    def _check(self, features: Sequence[Tensor]) -> None:
        """Refuse what any level would refuse, before a batch norm changes."""
        check_levels("ABFChain", "input", features, len(self.levels))
        for number, (level, x) in enumerate(zip(self.levels, features, strict=True), start=1):
            side, fusion = f"level {number}", cast(ABF, level)
            check_map("ABFChain", side, x, channels=fusion.in_channels)
            if x.shape[0] != features[0].shape[0]:
                expected = f"{features[0].shape[0]} as level 1"
                raise ShapeError("ABFChain", side, "batch", expected=expected, got=x.shape[0])
            check_device("ABFChain", side, x, features[0], "level 1")
            check_device("ABFChain", "weights", cast(nn.Conv2d, fusion.reduce[0]).weight, x, side)
        self.check_statistics("ABFChain", "", features)

    def check_statistics(self, where: str, side: str, features: Sequence[Tensor]) -> None:
        """Refuse levels from which batch norm in training cannot take statistics; ``side`` is the input's name."""
        for number, (level, x) in enumerate(zip(self.levels, features, strict=True), start=1):
            cast(ABF, level).check_statistics(where, f"{side} level {number}".lstrip(), x)


def make_adaptor(student_channels: int, teacher_channels: int) -> nn.Module:
    """Return a 1x1 convolution to the teacher's channels, or the identity if the channels agree."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return Convolution(student_channels, teacher_channels, 1)


def apply_adaptor(adaptor: nn.Module, features: Tensor) -> Tensor:
    """Return the features in the teacher's channels; the adaptor is the identity or a convolution."""
    weight = getattr(adaptor, "weight", None)
    result: Tensor = adaptor(features if weight is None else match_dtype(as_normal_tensor(features), weight))
    return result


def match_dtype(features: Tensor, weight: Tensor) -> Tensor:
    """Return the features in the weight's dtype, so that a float32 loss takes half-precision features.

    Under autocast, which casts both itself, only float64 is converted.

    Raises:
        ShapeError: the loss's weights are on another device than the features, or in a half precision that is not
            autocast's.
    """
    check_device("adaptor", "weights", weight, features, "the features; move the loss to the student's device")
    device = features.device.type
    if not autocasting(device) or weight.dtype == torch.float64:
        return features.to(weight.dtype)
    types = cast_by_autocast(device)
    if weight.dtype not in types:
        expected = f"{' or '.join(map(str, types))} under this autocast"
        raise ShapeError("adaptor", "weights", "dtype", expected=expected, got=weight.dtype)
    return features.to(weight.dtype) if features.dtype == torch.float64 else features
