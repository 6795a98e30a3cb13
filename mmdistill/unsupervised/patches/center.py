"""Center area: one square in the middle of the image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill.pair import Pair
from mmdistill.unsupervised.patches.protocol import check_images


@dataclass(frozen=True)
class CenterArea:
    """TIR-CMD's "center area": one square in the middle of the image.

    The paper doesn't say how large. With a fifth of the shorter side, a tracker whose search area is five times the
    target's side, as DiMP's, sees that side whole and nothing from outside the image.

    Attributes:
        fraction: the square's side, as a part of the image's shorter side; above 0, at most 1.

    Raises:
        ValueError: a fraction out of its range.
        ShapeError: when called, images that are none or differ in size.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.unsupervised import CenterArea
        >>> CenterArea(fraction=0.25)(Pair(torch.zeros(3, 80, 120), torch.zeros(1, 80, 120)))
        tensor([[50., 30., 20., 20.]])
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a fraction that is none."""
        _checks.share("CenterArea", "fraction", self.fraction)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the box ``(1, 4)``, ``x y w h`` in pixels."""
        height, width = check_images("CenterArea", pair)
        side = self.fraction * min(height, width)
        return torch.tensor([[(width - side) / 2, (height - side) / 2, side, side]], device=pair[0].device)
