"""Detectors of torchvision's kind as ``image -> boxes, scores, labels``; torchvision itself is not needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill.reductions import widen


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
        >>> from mmdistill.unsupervised import TorchvisionDetector
        >>> def model(images):  # torchvision.models.detection.fasterrcnn_resnet50_fpn_v2(weights="DEFAULT").eval()
        ...     corners = torch.tensor([[10.0, 20.0, 40.0, 60.0]])
        ...     return [{"boxes": corners, "scores": torch.ones(1), "labels": torch.ones(1)} for _ in images]
        >>> TorchvisionDetector(model)(torch.zeros(1, 80, 120, dtype=torch.uint8))[0]
        tensor([[10., 20., 30., 40.]])
    """

    model: Callable[[list[Tensor]], Sequence[Mapping[str, Tensor]]]

    def __post_init__(self) -> None:
        """Refuse what can't be called."""
        _checks.called("TorchvisionDetector", "model", self.model)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(K, 4)`` as ``x y w h``, scores and labels ``(K,)`` of an image ``(C, H, W)``."""
        if getattr(self.model, "training", False):
            raise ValueError("TorchvisionDetector: the model is in training mode; call its eval() first")
        values = widen(image) / 255 if image.dtype == torch.uint8 else widen(image)
        with torch.no_grad():
            found = self.model([values.expand(3, -1, -1)])[0]
        corners = found["boxes"]
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        return boxes, found["scores"], found["labels"]
