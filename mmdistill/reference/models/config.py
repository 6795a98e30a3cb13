"""What a network is built from: depth, streams, modalities, fusion and classifier as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mmdistill.reference.models.resnet import Depth
from mmdistill.toolkit.ranges import Range, RangeError, check_fields

Modality = Literal["rgbt", "rgb", "tir"]
Fusion = Literal["mpsd", "mpsd-paths", "mpsd-layer-norm", "concat", "spatial", "channel", "mdc-frs", "none"]
Classifier = Literal["dimp", "atom"]
Width = Annotated[int, Range(2, 256, step=2)]
CropSize = Annotated[int, Range(64, 1024, step=16)]
FilterSize = Annotated[int, Range(2, 32, step=2)]
"""Cell i of a score map stands at 16 i pixels for even filters only."""


@dataclass(frozen=True)
class NetworkSettings:
    """What a network is built from; saved with its checkpoint.

    Attributes:
        depth: the trunk's depth, 18 or 50.
        streams: trunks: 1 that all modalities share, stacked on the batch axis, or 2, one for each.
        modality: what the network sees: ``"rgbt"`` both, ``"rgb"`` or ``"tir"`` that one alone.
        fusion: ``"mpsd"`` (CMD's student, its blocks as published), ``"mpsd-layer-norm"`` and ``"mpsd-paths"`` (blocks
            of ``MPSDFusion(normalize=...)``), ``"mdc-frs"`` (the teacher's; in a student "TF" of CMD Table 3),
            ``"concat"`` (the plain student), ``"spatial"`` or ``"channel"`` attention (SAF, CAF of Table 3), or
            ``"none"`` for a single modality.
        classifier: ``"dimp"``, a learned initializer and optimizer of the target filter, or ``"atom"``, a classifier
            that is learned online from nothing and has no weights here.
        width: channels of the trunk's first convolution; all other widths are multiples of it. 64 as published.
        filter_size: cells along the target filter.
        optimiser_iterations: steps of the filter optimizer in training.
        label_sigma: the label's deviation relative to the target's side, for a search area of 5 times that side.
        crop_size: side of the square crops the network is made for, pixels; a multiple of 16.
        search_area: the crop's side relative to the target's.
        refinement_steps: gradient steps of box refinement in tracking.

    Raises:
        RangeError: a value out of its range, a filter larger than the feature map, or a fusion or streams that do not
            fit the modality.
    """

    depth: Depth = 18
    streams: Literal[1, 2] = 1
    modality: Modality = "rgbt"
    fusion: Fusion = "mpsd"
    classifier: Classifier = "dimp"
    width: Width = 64
    filter_size: FilterSize = 4
    optimiser_iterations: Annotated[int, Range(0, 1000)] = 5
    label_sigma: Annotated[float, Range(0.001, 10)] = 0.25
    crop_size: CropSize = 288
    search_area: Annotated[float, Range(1, 100)] = 5.0
    refinement_steps: Annotated[int, Range(1, 1000)] = 5

    def __post_init__(self) -> None:
        check_fields(self)
        if self.filter_size > self.feature_size:
            expected = f"at most {self.feature_size}, the cells of a feature map for crop_size {self.crop_size}"
            raise RangeError("NetworkSettings.filter_size", expected, self.filter_size)
        if (self.modality == "rgbt") == (self.fusion == "none"):
            expected = "a fusion of the two" if self.modality == "rgbt" else "'none'"
            raise RangeError("NetworkSettings.fusion", f"{expected} for modality {self.modality!r}", self.fusion)
        if self.modality != "rgbt" and self.streams != 1:
            raise RangeError("NetworkSettings.streams", f"1 for modality {self.modality!r}", self.streams)

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
    return NetworkSettings(width=width, crop_size=crop_size)


def teacher_settings(depth: Depth = 50, width: int = 64, crop_size: int = 288) -> NetworkSettings:
    """Return CMD's teacher: two trunks, MDC and FRS fusion."""
    return NetworkSettings(depth=depth, streams=2, fusion="mdc-frs", width=width, crop_size=crop_size)


def single_settings(
    modality: Literal["rgb", "tir"],
    depth: Depth = 18,
    width: int = 64,
    crop_size: int = 288,
    classifier: Classifier = "dimp",
) -> NetworkSettings:
    """Return a tracker of one modality: DiMP, or ATOM by its classifier."""
    return NetworkSettings(
        depth=depth, modality=modality, fusion="none", classifier=classifier, width=width, crop_size=crop_size
    )
