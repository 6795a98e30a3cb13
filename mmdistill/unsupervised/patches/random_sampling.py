"""Random sampling: regions of a given area anywhere in the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill.pair import Pair
from mmdistill.unsupervised.patches.protocol import check_images


@dataclass(frozen=True)
class RandomSampling:
    """TIR-CMD's "random sampling": regions of about a sixth of the image's area, anywhere in it.

    The paper says "approximately 1/6 size of the image", resized to 100x100 pixels, and doesn't say of which shape.
    Here the area is exact and the shape varies: the ratio of the sides, in the logarithm, is drawn evenly from
    ``1 / aspect`` to ``aspect``, and brought nearer to the image's own where the region would not fit.

    The paper resizes each region to 100x100 pixels, for which there is ``cut_patches``. A tracker that crops around a
    box at a scale of its own, as DiMP does, needs the box alone.

    Attributes:
        count: how many regions, at least 1.
        share: their part of the image's area; above 0, at most 1.
        aspect: the largest ratio of their sides, at least 1.

    Raises:
        ValueError: one of the three out of its range.
        ShapeError: when called, images that are none or differ in size.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.unsupervised import RandomSampling
        >>> pair = Pair(torch.zeros(3, 80, 120), torch.zeros(1, 80, 120))
        >>> boxes = RandomSampling(count=5)(pair, torch.Generator().manual_seed(0))
        >>> boxes.shape, boxes[:, 2:].prod(dim=1).round()
        (torch.Size([5, 4]), tensor([1600., 1600., 1600., 1600., 1600.]))
    """

    count: int = 4
    share: float = 1 / 6
    aspect: float = 4 / 3

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        _checks.whole("RandomSampling", "count", self.count)
        _checks.share("RandomSampling", "share", self.share)
        _checks.number("RandomSampling", "aspect", self.aspect, low=1)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return the boxes ``(count, 4)``, ``x y w h`` in pixels."""
        height, width = check_images("RandomSampling", pair)
        device = "cpu" if generator is None else generator.device
        ratio, right, down = torch.rand(3, self.count, generator=generator, device=device)
        area = self.share * height * width
        w = (area * self.aspect ** (2 * ratio - 1)).sqrt().clamp(self.share * width, width)
        h = (area / w).clamp(max=height)
        boxes = torch.stack([right * (width - w), down * (height - h), w, h], dim=1)
        return boxes.to(pair[0].device)
