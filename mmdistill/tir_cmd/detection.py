"""Patches from a detector, and an adapter for detectors with torchvision's interface.

torchvision itself is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mmdistill._checks.arguments import (
    MAX_NUMBER,
    check_callable,
    check_choice,
    check_int,
    check_number,
    check_sequence,
)
from mmdistill._numerics import to_float32
from mmdistill.errors import NotFiniteError, ShapeError
from mmdistill.pair import Pair
from mmdistill.tir_cmd.patch_samplers import check_images
from mmdistill.tir_cmd.saliency import SaliencyDetector, non_maximum_suppression

Detector = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Any callable from an image ``(C, H, W)`` to boxes ``(K, 4)`` as ``x y w h`` in pixels, scores and labels ``(K,)``.

Convert corners ``x1 y1 x2 y2`` first; ``TorchvisionDetector`` does so for torchvision's models.
"""


@dataclass(frozen=True)
class Detection:
    """TIR-CMD's "detection": the boxes that a detector finds in both modalities, without duplicates.

    The detector runs on each modality's image. Boxes are clipped to the image; small boxes and boxes of low score are
    dropped. Among boxes that overlap by more than ``max_overlap``, within or between modalities, the box of the highest
    score is kept, RGB's at equal scores. Labels are ignored. The paper's detector runs on RGB only:
    ``modalities=("rgb",)``.

    If nothing is found the result is ``(0, 4)``: skip such a pair in training, and count it.

    Sun et al., ACM Multimedia 2021, section 4.2, https://arxiv.org/abs/2108.00187.

    Attributes:
        detector: ``image -> boxes, scores, labels``, such as a ``TorchvisionDetector``. The default,
            ``SaliencyDetector``, needs no weights and knows no classes.
        min_score: boxes of lower scores are dropped.
        min_side: boxes of smaller width or height are dropped, pixels.
        max_boxes: at most so many boxes are kept, the best ones.
        max_overlap: the IoU above which two boxes are duplicates.
        modalities: the images that the detector gets.

    Raises:
        ValueError: an argument out of range.
        ShapeError: when called, images that are no images or differ in size, or detections of inconsistent shapes.
        NotFiniteError: when called, detections with NaN or infinity.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tir_cmd import Detection
        >>> def detector(image):
        ...     x = 10.0 + image.mean()
        ...     return torch.tensor([[x, 10, 40, 30]]), torch.tensor([0.9]), torch.tensor([1])
        >>> Detection(detector)(Pair(torch.zeros(3, 80, 120), torch.ones(1, 80, 120)))  # TIR's box is a duplicate
        tensor([[10., 10., 40., 30.]])
    """

    detector: Detector = SaliencyDetector()
    min_score: float = 0.5
    min_side: float = 8.0
    max_boxes: int = 8
    max_overlap: float = 0.8
    modalities: tuple[Literal["rgb", "tir"], ...] = ("rgb", "tir")

    def __post_init__(self) -> None:
        """Refuse arguments out of range."""
        check_callable("Detection", "detector", self.detector)
        check_number("Detection", "min_score", self.min_score)
        check_number("Detection", "min_side", self.min_side, low=1 / MAX_NUMBER)
        check_int("Detection", "max_boxes", self.max_boxes)
        check_number("Detection", "max_overlap", self.max_overlap, low=0, high=1)
        check_sequence("Detection", "modalities", self.modalities, _check_modality)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the boxes ``(P, 4)``, ``x y w h`` in pixels, best first; P may be 0."""
        height, width = check_images("Detection", pair)
        images = dict(zip(Pair._fields, pair, strict=True))
        detections = [_check_detections(modality, self.detector(images[modality])) for modality in self.modalities]
        boxes, scores = (torch.cat(parts).to(pair[0].device) for parts in zip(*detections, strict=True))
        boxes = _clip(boxes, height, width)
        kept = (boxes[:, 2:] >= self.min_side).all(dim=1) & (scores >= self.min_score)
        order = scores[kept].argsort(descending=True, stable=True)
        best_first = boxes[kept][order]
        return best_first[non_maximum_suppression(best_first, self.max_overlap, self.max_boxes)]


def _check_modality(where: str, name: str, value: object) -> object:
    return check_choice(where, name, value, Pair._fields)


def _check_detections(modality: str, detections: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return one image's boxes and scores, in float32 or wider and without gradient."""
    if not isinstance(detections, tuple | list) or len(detections) != 3:
        got = type(detections).__name__
        raise ShapeError("Detection", f"{modality} detections", "type", expected="(boxes, scores, labels)", got=got)
    boxes, scores, labels = (torch.as_tensor(part) for part in detections)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError("Detection", f"{modality} boxes", "axes", expected="(K, 4)", got=tuple(boxes.shape))
    for name, values in (("scores", scores), ("labels", labels)):
        if values.shape != boxes.shape[:1]:
            expected = f"({boxes.shape[0]},) as boxes"
            raise ShapeError("Detection", f"{modality} {name}", "axes", expected=expected, got=tuple(values.shape))
    for name, values in (("boxes", boxes), ("scores", scores)):
        broken = int((~values.isfinite()).sum())
        if broken:
            got = f"{broken} NaN or infinite"
            raise NotFiniteError("Detection", f"{modality} {name}", "values", expected="finite", got=got)
    return to_float32(boxes.detach()), to_float32(scores.detach())


def _clip(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the boxes clipped to the image."""
    sides = torch.tensor([width, height], dtype=boxes.dtype, device=boxes.device)
    low = boxes[:, :2].clamp(min=0).minimum(sides)
    high = (boxes[:, :2] + boxes[:, 2:]).minimum(sides)
    return torch.cat([low, (high - low).clamp(min=0)], dim=1)


@dataclass(frozen=True)
class TorchvisionDetector:
    """A detection model with torchvision's interface, for ``Detection``.

    Such a model takes a list of images ``(3, H, W)`` from 0 to 1 and returns, for each, ``"boxes"`` as corners
    ``x1 y1 x2 y2``, ``"scores"`` and ``"labels"``. This class divides 8-bit images by 255, repeats a single channel and
    converts corners to ``x y w h``, without gradient. The model stays on its device, where the image must be too, and
    must be in evaluation mode.

    Attributes:
        model: a torchvision model, or one with the same interface.

    Raises:
        ValueError: the model is not callable; when called, the model is in training mode.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd import TorchvisionDetector
        >>> def model(images):  # torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(weights="DEFAULT").eval()
        ...     corners = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
        ...     return [{"boxes": corners, "scores": torch.ones(1), "labels": torch.ones(1)} for _ in images]
        >>> TorchvisionDetector(model)(torch.zeros(1, 80, 120, dtype=torch.uint8))[0]
        tensor([[10., 20., 30., 40.]])
    """

    model: Callable[[list[Tensor]], Sequence[Mapping[str, Tensor]]]

    def __post_init__(self) -> None:
        """Refuse a model that is not callable."""
        check_callable("TorchvisionDetector", "model", self.model)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(K, 4)`` as ``x y w h``, scores and labels ``(K,)`` of an image ``(C, H, W)``."""
        if getattr(self.model, "training", False):
            raise ValueError("TorchvisionDetector: the model is in training mode; call its eval() first")
        values = to_float32(image) / 255 if image.dtype == torch.uint8 else to_float32(image)
        with torch.no_grad():
            detections = self.model([values.expand(3, -1, -1)])[0]
        corners = detections["boxes"]
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        return boxes, detections["scores"], detections["labels"]
