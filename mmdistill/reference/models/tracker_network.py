"""The network of every reference tracker: trunks, fusion, classifier and IoU-Net.

The settings choose the tracker: CMD's teacher, CMD's student with any fusion of Table 3, DiMP
(https://arxiv.org/abs/1904.07220) or ATOM (https://arxiv.org/abs/1811.07628) on RGB or TIR.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn

from mmdistill._checks.shapes import check_map, check_same_shape
from mmdistill.fusion import (
    ChannelAttentionFusion,
    ConcatFusion,
    FusedPaths,
    MPSDFusion,
    SpatialAttentionFusion,
    one_path,
)
from mmdistill.pair import Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.iou_net import IoUNet
from mmdistill.reference.models.resnet import ResNetTrunk
from mmdistill.reference.models.teacher_fusion import TeacherFusion
from mmdistill.tir_cmd.settings import Branch, Module
from mmdistill.toolkit.data_issues import DataError

FUSED_LEVELS = (2, 3)
"""Indices of the fused levels: ``layer2`` (level 3, boxes) and ``layer3`` (level 4, boxes and classification)."""

_STUDENT_FUSIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "mpsd": MPSDFusion,
    "mpsd-paths": partial(MPSDFusion, normalize="paths"),
    "mpsd-layer-norm": partial(MPSDFusion, normalize="layer_norm"),
    "concat": ConcatFusion,
    "spatial": SpatialAttentionFusion,
    "channel": ChannelAttentionFusion,
}


class ExtractedFeatures(NamedTuple):
    """The features of a batch of frame pairs.

    Attributes:
        levels: both modalities' four levels ``(B, C, H, W)``, shallow to deep. Both members are the same in a
            single-modality network.
        fused: the fused maps of levels 3 and 4.
        paths: the fusion paths of levels 3 and 4; one path for fusions other than MPSD.
    """

    levels: Pair[list[Tensor]]
    fused: list[Tensor]
    paths: list[FusedPaths]


class Predictions(NamedTuple):
    """The outputs that training compares with the ground truth.

    Attributes:
        scores: of every filter iterate, ``(I + 1, M, S, H', W')``; None for ATOM.
        iou: of the proposals, ``(M, S, P)``, scaled to -1 to 1.
        test: the test frames' features.
    """

    scores: Tensor | None
    iou: Tensor
    test: ExtractedFeatures


class WeightStreams:
    """Random streams of initial weights, one for each part.

    After ``torch.manual_seed``, a part's initial weights depend on the seed and the part's name only. So networks that
    differ in one part, such as the fusion, start with the same weights in all other parts.
    """

    def __init__(self) -> None:
        self._seed = int(torch.randint(2**62, (), device="cpu"))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Draw from the part's stream, and leave PyTorch's CPU generator as it was."""
        sequence = np.random.SeedSequence((self._seed, *name.encode()))
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
            yield


class TrackerNetwork(nn.Module):
    """The trained parts of a tracker.

    Each part draws its initial weights from a stream of its own; see ``WeightStreams``.

    Attributes:
        settings: the network's settings.
        classifier: DiMP's classifier; None for ATOM, whose classifier is learned online.

    Raises:
        ShapeError: the modalities' images have different shapes.
    """

    classifier: TargetClassifier | None

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        names, streams = ("one",) if settings.streams == 1 else Pair._fields, WeightStreams()
        with streams.part("trunks"):
            self.trunks = nn.ModuleDict({name: ResNetTrunk(settings.depth, settings.width) for name in names})
        shallow, deep = (self.channels[level] for level in FUSED_LEVELS)
        fused = () if settings.modality != "rgbt" else (shallow, deep)
        with streams.part("fusions"):
            self.fusions = nn.ModuleList(_fusion(settings, channels) for channels in fused)
        hidden = 4 * settings.width
        self.classifier = None
        if settings.classifier == "dimp":
            with streams.part("classifier"):
                self.classifier = TargetClassifier(
                    deep,
                    hidden if settings.depth == 18 else 2 * hidden,
                    settings.depth,
                    settings.filter_size,
                    settings.label_sigma_cells,
                )
        with streams.part("iou_net"):
            self.iou_net = IoUNet((shallow, deep), hidden)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels per level, shallow to deep, of either modality."""
        trunk = next(iter(self.trunks.values()))
        assert isinstance(trunk, ResNetTrunk)
        return trunk.channels

    def extract(self, images: Pair[Tensor]) -> ExtractedFeatures:
        """Return the features of normalized images ``(B, 3, H, W)``. Single-modality networks read one member only."""
        levels = self.levels(images)
        paths = [self.fuse(levels, index) for index in range(len(FUSED_LEVELS))]
        return ExtractedFeatures(levels, [path.fused for path in paths], paths)

    def levels(self, images: Pair[Tensor]) -> Pair[list[Tensor]]:
        """Return both modalities' four levels, as ``ExtractedFeatures.levels``, of images as ``extract`` takes them."""
        modality = self.settings.modality
        if modality != "rgbt":
            alone = getattr(images, modality)
            check_map("TrackerNetwork", modality, alone, channels=3)
            features: list[Tensor] = self.trunks["one"](alone)
            return Pair(list(features), list(features))
        check_map("TrackerNetwork", "rgb", images[0], channels=3)
        check_same_shape("TrackerNetwork", "tir", images[1], images[0], "rgb")
        if self.settings.streams == 2:
            return Pair(self.trunks["rgb"](images.rgb), self.trunks["tir"](images.tir))
        # The gradient of split_with_sizes, unlike that of slices, is one tensor in channels-last layout.
        sizes = [member.shape[0] for member in images]
        halves = [level.split_with_sizes(sizes) for level in self.trunks["one"](torch.cat(images))]
        return Pair([rgb for rgb, _ in halves], [tir for _, tir in halves])

    def fuse(self, levels: Pair[list[Tensor]], index: int) -> FusedPaths:
        """Return the fusion of level ``FUSED_LEVELS[index]``; a single-modality network returns the level itself."""
        level = FUSED_LEVELS[index]
        if not self.fusions:
            return one_path(levels.rgb[level])
        fused = self.fusions[index](Pair(levels.rgb[level], levels.tir[level]))
        return fused if isinstance(fused, FusedPaths) else one_path(fused)

    def score(self, train: Tensor, train_boxes: Tensor, test: Tensor) -> Tensor | None:
        """Learn the target filter on train frames and score test frames with it.

        Args:
            train: the train frames' fused level 4, ``(N S, C, H, W)``.
            train_boxes: their targets, ``(N, S, 4)``, ``x y w h`` in crop pixels.
            test: the test frames' fused level 4, ``(M S, C, H, W)``.

        Returns:
            ``Predictions.scores``.
        """
        if self.classifier is None:
            return None
        count, sequences = train_boxes.shape[:2]
        iterates = self.classifier.learn(
            self.classifier.features(_unflatten_frames(train, count)), train_boxes, self.settings.optimiser_iterations
        )
        return self.classifier.score(
            iterates, self.classifier.features(_unflatten_frames(test, len(test) // sequences))
        )

    def forward(self, train: Pair[Tensor], train_boxes: Tensor, test: Pair[Tensor], proposals: Tensor) -> Predictions:
        """Learn the target on the train frames, then score the test frames and their proposals.

        Args:
            train: normalized images ``(N, S, 3, H, W)``: N frames of each of S sequences.
            train_boxes: their targets, ``(N, S, 4)``, ``x y w h`` in crop pixels.
            test: normalized images ``(M, S, 3, H, W)``.
            proposals: boxes in the test frames, ``(M, S, P, 4)``.
        """
        count, frames = len(train_boxes), len(proposals)
        train_features = self.extract(flatten_frames(train))
        test_features = self.extract(flatten_frames(test))
        scores = self.score(train_features.fused[1], train_boxes, test_features.fused[1])
        # As in ATOM, the first train frame is the reference of all test frames.
        first = [_first_maps(fused, fused.shape[0] // count) for fused in train_features.fused]
        modulation = self.iou_net.modulate(first[0], first[1], train_boxes[0])
        modulation = type(modulation)(*(vector.repeat(frames, 1, 1, 1) for vector in modulation))
        iou_features = self.iou_net.features(test_features.fused[0], test_features.fused[1])
        iou = self.iou_net.predict(modulation, iou_features, proposals.flatten(0, 1))
        return Predictions(scores, rearrange(iou, "(m s) p -> m s p", m=frames), test_features)


def _fusion(settings: NetworkSettings, channels: int) -> nn.Module:
    if settings.fusion == "mdc-frs":
        return TeacherFusion(channels, 4 * settings.width)
    return _STUDENT_FUSIONS[settings.fusion](channels)


def flatten_frames(images: Pair[Tensor]) -> Pair[Tensor]:
    """Reshape images ``(N, S, 3, H, W)`` to ``(N S, 3, H, W)``, the input of ``TrackerNetwork.extract``."""
    return Pair(*(rearrange(member, "n s c h w -> (n s) c h w") for member in images))


def _unflatten_frames(features: Tensor, frames: int) -> Tensor:
    return rearrange(features, "(n s) c h w -> n s c h w", n=frames)


def _first_maps(features: Tensor, count: int) -> Tensor:
    """Return the first maps of features ``(B, C, H, W)``, sliced so that the gradient is in channels-last layout."""
    return features.permute(0, 2, 3, 1)[:count].permute(0, 3, 1, 2)


Role = tuple[Module, Branch]
"""A module of the tracker (``"bbe"`` or ``"tcl"``) in one of its branches."""

BRANCHES: tuple[Branch, ...] = ("reference", "test")

PARTS: Mapping[Role, tuple[str, ...]] = {
    ("bbe", "reference"): (
        "iou_net.reference_level3",
        "iou_net.reference_level4",
        "iou_net.reference_pooled3",
        "iou_net.modulation3",
        "iou_net.modulation4",
    ),
    ("bbe", "test"): (
        "iou_net.test_level3",
        "iou_net.test_level4",
        "iou_net.box_level3",
        "iou_net.box_level4",
        "iou_net.predictor",
    ),
    # One extractor serves both branches.
    ("tcl", "reference"): ("classifier.extractor", "classifier.initialiser", "classifier.optimiser"),
    ("tcl", "test"): ("classifier.extractor",),
}
"""Names of the parts of box estimation (BBE) and target center location (TCL) per branch; the trunk is in none."""


def get_parts(network: TrackerNetwork, roles: Iterable[Role]) -> list[nn.Module]:
    """Return the parts with these roles, without duplicates."""
    names = dict.fromkeys(name for role in roles for name in PARTS[role])
    return [network.get_submodule(name) for name in names]


def combine_networks(network: TrackerNetwork, donors: Mapping[Role, TrackerNetwork]) -> TrackerNetwork:
    """Return a copy of a network, in evaluation mode, with the parts of each role taken from a donor.

    TIR-CMD's setting B3 takes ``("bbe", "reference")`` from B1 and ``("bbe", "test")`` from B2.

    Raises:
        DataError: a donor has other settings.
    """
    combined = TrackerNetwork(network.settings)
    combined.load_state_dict(network.state_dict())
    for role, donor in donors.items():
        if donor.settings != network.settings:
            raise DataError("combine_networks: expected donors with the network's settings, got other settings")
        for part, source in zip(get_parts(combined, [role]), get_parts(donor, [role]), strict=True):
            part.load_state_dict(source.state_dict())
    return combined.eval()


def to_tir_network(network: TrackerNetwork) -> TrackerNetwork:
    """Return a copy of a single-modality network for TIR images, with equal weights, in evaluation mode.

    Raises:
        DataError: the network is for RGB and TIR.
    """
    if network.settings.modality == "rgbt":
        raise DataError("the initial network: expected a tracker of one modality, RGB or TIR, got one of both")
    tir = TrackerNetwork(replace(network.settings, modality="tir"))
    tir.load_state_dict(network.state_dict())
    return tir.eval()
