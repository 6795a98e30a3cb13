"""What makes patches of a pair of images, and what it asks of the images."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mmdistill._contracts import check_axes, check_pair
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair


class Patches(Protocol):
    """Chooses the regions of an aligned pair that stand for a target: the same ones in both modalities.

    ``CenterArea``, ``RandomSampling`` and ``Detection`` are of this kind, and so is any callable with this signature.
    """

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return boxes ``(P, 4)``, ``x y w h`` in pixels, each wholly inside the image; none, where nothing was found.

        Args:
            pair: images ``(C, H, W)``, of one size, C of 1 or 3.
            generator: where chance comes from; PyTorch's own if not given, and not read where nothing is random.
        """


def check_images(where: str, pair: Pair[Tensor]) -> tuple[int, int]:
    """Return the height and width of a pair's images.

    Raises:
        ShapeError: no images ``(1 or 3, H, W)``, or of two sizes, or of complex numbers.
    """
    check_pair(where, "pair", pair)
    for side, image in zip(Pair._fields, pair, strict=True):
        check_axes(where, side, image, ("channels", "height", "width"))
        if image.shape[0] not in (1, 3):
            raise ShapeError(where, side, "channels", expected="1 or 3", got=image.shape[0])
        if image.dtype.is_complex:
            raise ShapeError(where, side, "dtype", expected="floating point or whole numbers", got=image.dtype)
    rgb, tir = pair
    for axis, name in ((1, "height"), (2, "width")):
        if rgb.shape[axis] != tir.shape[axis]:
            raise ShapeError(where, "tir", name, expected=f"{rgb.shape[axis]} as rgb", got=tir.shape[axis])
    return rgb.shape[1], rgb.shape[2]
