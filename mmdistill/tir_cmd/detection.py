"""Detection: what a detector finds in either modality.

Detectors of torchvision's kind as ``image -> boxes, scores, labels``; torchvision itself is not needed.
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

Convert corners ``x1 y1 x2 y2`` first: they look like ``x y w h``. ``TorchvisionDetector`` does so for torchvision's.
"""


@dataclass(frozen=True)
class Detection:
    """TIR-CMD's "detection": the boxes that a detector finds, each once though both modalities show it.

    The detector is called on each modality's image. Boxes are clipped to the image. Boxes that are then too small, or
    have too low a score, are dropped. Of boxes that overlap by more than ``duplicate``, in one modality or in both, the
    one with the highest score is kept; at equal scores RGB's. Labels are not read. The paper's detector was trained on
    RGB, and looks at RGB images alone: ``modalities=("rgb",)``.

    Where nothing is found there are no boxes, ``(0, 4)``: skip such a pair in training, and count it.

    Attributes:
        detector: ``image -> boxes, scores, labels``; a ``TorchvisionDetector``, or your own. The default,
            ``SaliencyDetector``, needs no weights and knows no classes.
        minimum_score: boxes below it are dropped.
        minimum_side: so are those that are narrower or lower, pixels.
        maximum: at most so many are kept, the best.
        duplicate: the overlap, as intersection over union, above which two boxes are the same.
        modalities: which images the detector is shown.

    Raises:
        ValueError: a setting out of its range.
        ShapeError: when called, images that are none or differ in size, or detections that don't fit together; a
            ``NotFiniteError`` where they hold NaN or infinity.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tir_cmd import Detection
        >>> def detector(image):
        ...     x = 10.0 + image.mean()
        ...     return torch.tensor([[x, 10, 40, 30]]), torch.tensor([0.9]), torch.tensor([1])
        >>> Detection(detector)(Pair(torch.zeros(3, 80, 120), torch.ones(1, 80, 120)))  # TIR's box is the same one
        tensor([[10., 10., 40., 30.]])
    """

    detector: Detector = SaliencyDetector()
    minimum_score: float = 0.5
    minimum_side: float = 8.0
    maximum: int = 8
    duplicate: float = 0.8
    modalities: tuple[Literal["rgb", "tir"], ...] = ("rgb", "tir")

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_callable("Detection", "detector", self.detector)
        check_number("Detection", "minimum_score", self.minimum_score)
        check_number("Detection", "minimum_side", self.minimum_side, low=1 / MAX_NUMBER)
        check_int("Detection", "maximum", self.maximum)
        check_number("Detection", "duplicate", self.duplicate, low=0, high=1)
        check_sequence("Detection", "modalities", self.modalities, _modality)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the boxes ``(P, 4)``, ``x y w h`` in pixels, the best first; P may be 0."""
        height, width = check_images("Detection", pair)
        images = dict(zip(Pair._fields, pair, strict=True))
        found = [_checked(modality, self.detector(images[modality])) for modality in self.modalities]
        boxes, scores = (torch.cat(parts).to(pair[0].device) for parts in zip(*found, strict=True))
        boxes = _clipped(boxes, height, width)
        kept = (boxes[:, 2:] >= self.minimum_side).all(dim=1) & (scores >= self.minimum_score)
        order = scores[kept].argsort(descending=True, stable=True)
        best_first = boxes[kept][order]
        return best_first[non_maximum_suppression(best_first, self.duplicate, self.maximum)]


def _modality(where: str, name: str, value: object) -> object:
    return check_choice(where, name, value, Pair._fields)


def _checked(modality: str, detections: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return boxes and scores of one image, in float32 at least and without gradient."""
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


def _clipped(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return the parts of the boxes inside the image."""
    sides = torch.tensor([width, height], dtype=boxes.dtype, device=boxes.device)
    low = boxes[:, :2].clamp(min=0).minimum(sides)
    high = (boxes[:, :2] + boxes[:, 2:]).minimum(sides)
    return torch.cat([low, (high - low).clamp(min=0)], dim=1)


@dataclass(frozen=True)
class TorchvisionDetector:
    """A detection model that is called as torchvision's are, for ``Detection``.

    Such a model takes a list of images ``(3, H, W)`` from 0 to 1 and returns, for each, ``"boxes"`` as corners
    ``x1 y1 x2 y2``, ``"scores"`` and ``"labels"``. Here 8-bit images are divided by 255, others taken as they are, one
    channel is shown as three, and corners become ``x y w h``. No gradient is kept. The model stays the caller's: on its
    own device, to which the image must fit, and in evaluation mode, as in training mode such models ask for targets.

    Attributes:
        model: a torchvision model, or what is called alike.

    Raises:
        ValueError: no callable; when called, a model in training mode.

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
        """Refuse what can't be called."""
        check_callable("TorchvisionDetector", "model", self.model)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(K, 4)`` as ``x y w h``, scores and labels ``(K,)`` of an image ``(C, H, W)``."""
        if getattr(self.model, "training", False):
            raise ValueError("TorchvisionDetector: the model is in training mode; call its eval() first")
        values = to_float32(image) / 255 if image.dtype == torch.uint8 else to_float32(image)
        with torch.no_grad():
            found = self.model([values.expand(3, -1, -1)])[0]
        corners = found["boxes"]
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        return boxes, found["scores"], found["labels"]
