"""Network settings: depth, streams, modality, fusion, classifier and sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mmdistill.toolkit.ranges import Range, RangeError, check_fields

Depth = Literal[18, 50]
Modality = Literal["rgbt", "rgb", "tir"]
Fusion = Literal["mpsd", "mpsd-paths", "mpsd-layer-norm", "concat", "spatial", "channel", "mdc-frs", "none"]
Classifier = Literal["dimp", "atom"]
Width = Annotated[int, Range(2, 256, step=2)]
CropSize = Annotated[int, Range(64, 1024, step=16)]
FilterSize = Annotated[int, Range(2, 32, step=2)]
"""Even only: for odd filters, cell i of a score map is not at 16 i pixels."""


@dataclass(frozen=True)
class NetworkSettings:
    """The settings of a network; saved with its weights.

    Attributes:
        depth: the trunk's depth, 18 or 50.
        streams: number of trunks: 1 shared by the modalities, stacked on the batch axis, or 2, one per modality.
        modality: the network's input: ``"rgbt"``, ``"rgb"`` or ``"tir"``.
        fusion: ``"mpsd"`` (CMD's student, its blocks as published), ``"mpsd-layer-norm"`` and ``"mpsd-paths"`` (blocks
            of ``MPSDFusion(normalize=...)``), ``"mdc-frs"`` (the teacher's; in a student "TF" of CMD Table 3),
            ``"concat"`` (the plain student), ``"spatial"`` or ``"channel"`` attention (SAF, CAF of Table 3), or
            ``"none"`` for a single modality.
        classifier: ``"dimp"``, a learned initializer and optimizer of the target filter, or ``"atom"``, a classifier
            learned online, which has no trained weights.
        width: channels of the trunk's first convolution; other widths are multiples of it. 64 in the papers.
        filter_size: cells along the target filter.
        optimiser_iterations: steps of the filter optimizer in training. Weights files have this spelling.
        label_sigma: standard deviation of the label, relative to the target's side, for a search area of 5.
        crop_size: side of the square crops, pixels; a multiple of 16.
        search_area: side of the crop relative to the target's.
        refinement_steps: gradient steps of box refinement in tracking.

    Raises:
        RangeError: a value is out of range, the filter is larger than the feature map, or fusion or streams do not fit
            the modality.
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
        """Standard deviation of the label, cells of the score map."""
        return self.label_sigma / self.search_area * self.feature_size


def student_settings(width: int = 64, crop_size: int = 288) -> NetworkSettings:
    """Return the settings of CMD's student: one ResNet-18 trunk for both modalities, MPSD fusion."""
    return NetworkSettings(width=width, crop_size=crop_size)


def teacher_settings(depth: Depth = 50, width: int = 64, crop_size: int = 288) -> NetworkSettings:
    """Return the settings of CMD's teacher: two trunks, MDC and FRS fusion."""
    return NetworkSettings(depth=depth, streams=2, fusion="mdc-frs", width=width, crop_size=crop_size)


def single_settings(
    modality: Literal["rgb", "tir"],
    depth: Depth = 18,
    width: int = 64,
    crop_size: int = 288,
    classifier: Classifier = "dimp",
) -> NetworkSettings:
    """Return the settings of a single-modality tracker, DiMP or ATOM."""
    return NetworkSettings(
        depth=depth, modality=modality, fusion="none", classifier=classifier, width=width, crop_size=crop_size
    )
