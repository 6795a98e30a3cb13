"""The tracker's network: one trunk or two, a fusion where there are two modalities, classifier and IoU-Net.

Which of the trackers it is, is a matter of its settings: CMD's teacher, its student with any fusion of Table 3, DiMP on
RGB or on TIR alone, ATOM.

The two branches of a tracker: which of its parts work on the reference frame, and which on the test frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

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
"""Which of the four levels are fused: ``layer2`` (boxes) and ``layer3`` (boxes and classification)."""


_STUDENT_FUSIONS: Mapping[str, Callable[[int], nn.Module]] = {
    "mpsd": MPSDFusion,
    "mpsd-paths": partial(MPSDFusion, normalize="paths"),
    "mpsd-layer-norm": partial(MPSDFusion, normalize="layer_norm"),
    "concat": ConcatFusion,
    "spatial": SpatialAttentionFusion,
    "channel": ChannelAttentionFusion,
}


class Extracted(NamedTuple):
    """The features of a batch of frame pairs.

    Attributes:
        levels: both modalities' four levels ``(B, C, H, W)``, shallow to deep; a single-modality network's own in
            either place.
        fused: the fused maps of levels 3 and 4.
        paths: how they were fused, one per fused level; a fusion without a choice has one path.
    """

    levels: Pair[list[Tensor]]
    fused: list[Tensor]
    paths: list[FusedPaths]


class Predictions(NamedTuple):
    """What training compares.

    Attributes:
        scores: by every filter iterate ``(I + 1, M, S, H', W')``; None from a network whose classifier is not trained.
        iou: of the proposals, ``(M, S, P)``, on the scale -1 to 1.
        test: the test frames' features.
    """

    scores: Tensor | None
    iou: Tensor
    test: Extracted


class TrackerNetwork(nn.Module):
    """All of a tracker that is trained.

    Attributes:
        classifier: DiMP's, or None where the classifier is learned online from nothing, as ATOM's.

    Raises:
        ShapeError: the modalities' images are not of one shape.
    """

    classifier: TargetClassifier | None

    def __init__(self, settings: NetworkSettings) -> None:
        super().__init__()
        self.settings = settings
        names = ("one",) if settings.streams == 1 else Pair._fields
        self.trunks = nn.ModuleDict({name: ResNetTrunk(settings.depth, settings.width) for name in names})
        shallow, deep = (self.channels[level] for level in FUSED_LEVELS)
        fused = () if settings.modality != "rgbt" else (shallow, deep)
        self.fusions = nn.ModuleList(_fusion(settings, channels) for channels in fused)
        hidden = 4 * settings.width
        self.classifier = None
        if settings.classifier == "dimp":
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
        """Return the features of normalized images ``(B, 3, H, W)``, a pair; a single modality's other is not read."""
        levels = self.levels(images)
        paths = [self.fuse(levels, number) for number in range(len(FUSED_LEVELS))]
        return Extracted(levels, [path.fused for path in paths], paths)

    def levels(self, images: Pair[Tensor]) -> Pair[list[Tensor]]:
        """Return both modalities' four levels, as ``Extracted.levels``, of images as ``extract`` takes them."""
        modality = self.settings.modality
        if modality != "rgbt":
            alone = getattr(images, modality)
            check_map("TrackerNetwork", modality, alone, channels=3)
            found: list[Tensor] = self.trunks["one"](alone)
            return Pair(list(found), list(found))
        check_map("TrackerNetwork", "rgb", images[0], channels=3)
        check_same_shape("TrackerNetwork", "tir", images[1], images[0], "rgb")
        if self.settings.streams == 2:
            return Pair(self.trunks["rgb"](images.rgb), self.trunks["tir"](images.tir))
        halves = [level.tensor_split(2) for level in self.trunks["one"](torch.cat(images))]
        return Pair([rgb for rgb, _ in halves], [tir for _, tir in halves])

    def fuse(self, levels: Pair[list[Tensor]], number: int) -> FusedPaths:
        """Return how one of ``FUSED_LEVELS`` is fused, by its place among them; a single modality's is as it is."""
        level = FUSED_LEVELS[number]
        if not self.fusions:
            return one_path(levels.rgb[level])
        fused = self.fusions[number](Pair(levels.rgb[level], levels.tir[level]))
        return fused if isinstance(fused, FusedPaths) else one_path(fused)

    def score(self, known: Tensor, train_boxes: Tensor, seen: Tensor) -> Tensor | None:
        """Learn the target's filter on train frames and score test frames with it.

        Args:
            known: the train frames' deeper fused map ``(N S, C, H, W)``.
            train_boxes: the targets in them, ``(N, S, 4)``, ``x y w h`` in crop pixels.
            seen: the test frames' ``(M S, C, H, W)``.

        Returns:
            ``Predictions.scores``.
        """
        if self.classifier is None:
            return None
        count, sequences = train_boxes.shape[:2]
        iterates = self.classifier.learn(
            self.classifier.features(_unflatten(known, count)), train_boxes, self.settings.optimiser_iterations
        )
        return self.classifier.score(iterates, self.classifier.features(_unflatten(seen, len(seen) // sequences)))

    def forward(self, train: Pair[Tensor], train_boxes: Tensor, test: Pair[Tensor], proposals: Tensor) -> Predictions:
        """Learn the target on the train frames, then score the test frames and their proposals.

        Args:
            train: normalized images ``(N, S, 3, H, W)``: N frames of each of S sequences.
            train_boxes: the targets in them, ``(N, S, 4)``, ``x y w h`` in crop pixels.
            test: ``(M, S, 3, H, W)``.
            proposals: boxes in the test frames, ``(M, S, P, 4)``.
        """
        count, frames = len(train_boxes), len(proposals)
        known = self.extract(as_batch(train))
        seen = self.extract(as_batch(test))
        scores = self.score(known.fused[1], train_boxes, seen.fused[1])
        # The first train frame says what the target is, as in ATOM; every test frame of the sequence is asked.
        first = [_unflatten(fused, count)[0] for fused in known.fused]
        modulation = self.iou_net.modulate(first[0], first[1], train_boxes[0])
        modulation = type(modulation)(*(vector.repeat(frames, 1, 1, 1) for vector in modulation))
        features = self.iou_net.features(seen.fused[0], seen.fused[1])
        iou = self.iou_net.predict(modulation, features, proposals.flatten(0, 1))
        return Predictions(scores, rearrange(iou, "(m s) p -> m s p", m=frames), seen)


def _fusion(settings: NetworkSettings, channels: int) -> nn.Module:
    if settings.fusion == "mdc-frs":
        return TeacherFusion(channels, 4 * settings.width)
    return _STUDENT_FUSIONS[settings.fusion](channels)


def as_batch(images: Pair[Tensor]) -> Pair[Tensor]:
    """Return images ``(N, S, 3, H, W)`` as ``(N S, 3, H, W)``, as ``TrackerNetwork.extract`` takes them."""
    return Pair(*(rearrange(member, "n s c h w -> (n s) c h w") for member in images))


def _unflatten(features: Tensor, frames: int) -> Tensor:
    return rearrange(features, "(n s) c h w -> n s c h w", n=frames)


Role = tuple[Module, Branch]

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
    # One extractor serves both branches, so it is tuned where either is.
    ("tcl", "reference"): ("classifier.extractor", "classifier.initialiser", "classifier.optimiser"),
    ("tcl", "test"): ("classifier.extractor",),
}
"""The parts of box estimation (BBE) and of target center location (TCL) in either branch; the trunk is in neither."""


def parts(network: TrackerNetwork, roles: Iterable[Role]) -> list[nn.Module]:
    """Return the parts that have these roles, each once."""
    names = dict.fromkeys(name for role in roles for name in PARTS[role])
    return [network.get_submodule(name) for name in names]


def assemble(network: TrackerNetwork, donors: Mapping[Role, TrackerNetwork]) -> TrackerNetwork:
    """Return a new network, in evaluation mode: the donors' parts of their roles, all else the first network's.

    TIR-CMD's setting B3 takes ``("bbe", "reference")`` from B1 and ``("bbe", "test")`` from B2, bit for bit.

    Raises:
        DataError: a donor is built differently.
    """
    made = TrackerNetwork(network.settings)
    made.load_state_dict(network.state_dict())
    for role, donor in donors.items():
        if donor.settings != network.settings:
            raise DataError("a network can only take parts of one that is built as it is")
        for mine, theirs in zip(parts(made, [role]), parts(donor, [role]), strict=True):
            mine.load_state_dict(theirs.state_dict())
    return made.eval()


def as_tir(network: TrackerNetwork) -> TrackerNetwork:
    """Return a copy of a tracker of one modality that takes TIR images, the same bits; in evaluation mode.

    Raises:
        DataError: a network of both modalities.
    """
    if network.settings.modality == "rgbt":
        raise DataError("the start: expected a tracker of one modality, RGB or TIR, got one of both")
    made = TrackerNetwork(replace(network.settings, modality="tir"))
    made.load_state_dict(network.state_dict())
    return made.eval()
