"""The RGB-T tracker's network: one or two trunks, fusion at levels 3 and 4, DiMP's classifier, ATOM's IoU-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from mmdistill.errors import check_map, check_same_shape
from mmdistill.fusion import ConcatFusion, FusedPaths, MPSDFusion
from mmdistill.pair import Pair
from mmdistill.reference.networks.classifier import TargetClassifier
from mmdistill.reference.networks.iou_net import IoUNet
from mmdistill.reference.networks.resnet import Depth, ResNetTrunk
from mmdistill.reference.networks.teacher_fusion import TeacherFusion

FUSED_LEVELS = (2, 3)
"""Which of the four levels are fused: ``layer2`` (boxes) and ``layer3`` (boxes and classification)."""


@dataclass(frozen=True)
class NetworkSettings:
    """What a network is built from; saved with its checkpoint.

    Attributes:
        depth: the trunk's depth, 18 or 50.
        streams: trunks: 1 that both modalities share, stacked on the batch axis, or 2, one for each.
        fusion: ``"mpsd"`` (CMD's student), ``"mdc-frs"`` (the teacher) or ``"concat"`` (the plain student).
        width: channels of the trunk's first convolution; all other widths are multiples of it. 64 as published.
        filter_size: cells along the target filter.
        optimiser_iterations: steps of the filter optimiser in training.
        label_sigma: the label's deviation relative to the target's side, for a search area of 5 times that side.
        crop_size: side of the square crops the network is made for, pixels; a multiple of 16.
        search_area: the crop's side relative to the target's.

    Raises:
        ValueError: a size that the network can't be built with.
    """

    depth: Depth = 18
    streams: Literal[1, 2] = 1
    fusion: Literal["mpsd", "mdc-frs", "concat"] = "mpsd"
    width: int = 64
    filter_size: int = 4
    optimiser_iterations: int = 5
    label_sigma: float = 0.25
    crop_size: int = 288
    search_area: float = 5.0

    def __post_init__(self) -> None:
        if self.crop_size < 64 or self.crop_size % 16:
            raise ValueError(f"crop_size: expected a multiple of 16, at least 64, got {self.crop_size}")
        if self.filter_size < 2 or self.filter_size % 2:
            # Cell i of a score map stands at 16 i pixels for even filters only.
            raise ValueError(f"filter_size: expected an even number of cells, got {self.filter_size}")
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width: expected an even number of channels, at least 2, got {self.width}")

    @property
    def feature_size(self) -> int:
        """Cells along a level-4 map."""
        return self.crop_size // 16

    @property
    def score_size(self) -> int:
        """Cells along a score map: one more, because the filter is even."""
        return self.feature_size + 1

    @property
    def label_sigma_cells(self) -> float:
        """The label's deviation in cells of the score map."""
        return self.label_sigma / self.search_area * self.feature_size


def student_settings(width: int = 64, crop_size: int = 288) -> NetworkSettings:
    """Return CMD's student: one ResNet-18 trunk for both modalities, MPSD fusion."""
    return NetworkSettings(depth=18, streams=1, fusion="mpsd", width=width, crop_size=crop_size)


def teacher_settings(depth: Depth = 50, width: int = 64, crop_size: int = 288) -> NetworkSettings:
    """Return CMD's teacher: two trunks, MDC and FRS fusion."""
    return NetworkSettings(depth=depth, streams=2, fusion="mdc-frs", width=width, crop_size=crop_size)


class Extracted(NamedTuple):
    """The features of a batch of frame pairs.

    Attributes:
        levels: both modalities' four levels ``(B, C, H, W)``, shallow to deep.
        fused: the fused maps of levels 3 and 4.
        paths: how a student's blocks fused them, one per fused level; empty for the teacher's fusion.
    """

    levels: Pair[list[Tensor]]
    fused: list[Tensor]
    paths: list[FusedPaths]


class Predictions(NamedTuple):
    """What training compares: scores ``(I + 1, M, S, H', W')``, IoU ``(M, S, P)``, the test frames' features."""

    scores: Tensor
    iou: Tensor
    test: Extracted


class RGBTNetwork(nn.Module):
    """A two-modality DiMP: teacher, student or plain student by its settings.

    Raises:
        ShapeError: the modalities' images are not of one shape.
    """

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        names = ("both",) if settings.streams == 1 else Pair._fields
        self.trunks = nn.ModuleDict({name: ResNetTrunk(settings.depth, settings.width) for name in names})
        shallow, deep = (self.channels[level] for level in FUSED_LEVELS)
        self.fusions = nn.ModuleList(_fusion(settings, channels) for channels in (shallow, deep))
        hidden = 4 * settings.width
        self.classifier = TargetClassifier(
            deep,
            hidden if settings.depth == 18 else 2 * hidden,
            settings.depth,
            settings.filter_size,
            settings.label_sigma_cells,
        )
        self.iou_net = IoUNet((shallow, deep), hidden)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of either modality per level, shallow to deep."""
        trunk = next(iter(self.trunks.values()))
        assert isinstance(trunk, ResNetTrunk)
        return trunk.channels

    def extract(self, images: Pair[Tensor]) -> Extracted:
        """Return the features of normalised images ``(B, 3, H, W)``, a pair."""
        check_map("RGBTNetwork", "rgb", images[0], channels=3)
        check_same_shape("RGBTNetwork", "tir", images[1], images[0], "rgb")
        levels = self._levels(images)
        outputs = [
            fusion(Pair(levels.rgb[level], levels.tir[level]))
            for fusion, level in zip(self.fusions, FUSED_LEVELS, strict=True)
        ]
        paths = [output for output in outputs if isinstance(output, FusedPaths)]
        fused = [output.fused if isinstance(output, FusedPaths) else output for output in outputs]
        return Extracted(levels, fused, paths)

    def forward(self, train: Pair[Tensor], train_boxes: Tensor, test: Pair[Tensor], proposals: Tensor) -> Predictions:
        """Learn the target on the train frames, then score the test frames and their proposals.

        Args:
            train: normalised images ``(N, S, 3, H, W)``: N frames of each of S sequences.
            train_boxes: the targets in them, ``(N, S, 4)``, ``x y w h`` in crop pixels.
            test: ``(M, S, 3, H, W)``.
            proposals: boxes in the test frames, ``(M, S, P, 4)``.
        """
        count, frames = len(train_boxes), len(proposals)
        known = self.extract(_flatten(train))
        seen = self.extract(_flatten(test))
        iterates = self.classifier.learn(
            self.classifier.features(_unflatten(known.fused[1], count)),
            train_boxes,
            self.settings.optimiser_iterations,
        )
        scores = self.classifier.score(iterates, self.classifier.features(_unflatten(seen.fused[1], frames)))
        # The first train frame says what the target is, as in ATOM; every test frame of the sequence is asked.
        first = [_unflatten(fused, count)[0] for fused in known.fused]
        modulation = self.iou_net.modulate(first[0], first[1], train_boxes[0])
        modulation = type(modulation)(*(vector.repeat(frames, 1, 1, 1) for vector in modulation))
        features = self.iou_net.features(seen.fused[0], seen.fused[1])
        iou = self.iou_net.predict(modulation, features, proposals.flatten(0, 1))
        return Predictions(scores, rearrange(iou, "(m s) p -> m s p", m=frames), seen)

    def _levels(self, images: Pair[Tensor]) -> Pair[list[Tensor]]:
        if self.settings.streams == 2:
            return Pair(self.trunks["rgb"](images.rgb), self.trunks["tir"](images.tir))
        halves = [level.chunk(2) for level in self.trunks["both"](torch.cat(images))]
        return Pair([rgb for rgb, _ in halves], [tir for _, tir in halves])


def _fusion(settings: NetworkSettings, channels: int) -> nn.Module:
    if settings.fusion == "mpsd":
        return MPSDFusion(channels)
    if settings.fusion == "mdc-frs":
        return TeacherFusion(channels, 4 * settings.width)
    return ConcatFusion(channels)


def _flatten(images: Pair[Tensor]) -> Pair[Tensor]:
    return Pair(*(rearrange(member, "n s c h w -> (n s) c h w") for member in images))


def _unflatten(features: Tensor, frames: int) -> Tensor:
    return rearrange(features, "(n s) c h w -> n s c h w", n=frames)
