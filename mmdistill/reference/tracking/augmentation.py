"""Augments the first frame with a table of transforms, applied equally to RGB and TIR."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import Array, centers
from mmdistill.toolkit.ranges import Range, check_fields
from mmdistill.toolkit.sequence import Image

Share = Annotated[float, Range(0, 1)]
SignedShare = Annotated[float, Range(-1, 1)]


@dataclass(frozen=True)
class Transform:
    """A transform of the first frame's crop. Lengths are relative to the crop's side.

    Attributes:
        angle: rotation about the target's center, degrees counter-clockwise.
        flip: whether to mirror left to right, about the target's center.
        blur: standard deviations of a Gaussian blur along x and y.
        shift: translation of the target along x and y.
        random_shift: limit of a further translation along either axis, uniform in plus and minus this.
    """

    angle: Annotated[float, Range(-360, 360)] = 0.0
    flip: bool = False
    blur: tuple[Share, Share] = (0.0, 0.0)
    shift: tuple[SignedShare, SignedShare] = (0.0, 0.0)
    random_shift: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)


TRANSFORMS: tuple[Transform, ...] = (
    *(Transform(shift=(0.3 * right, 0.3 * down)) for right, down in product((-1, 1), repeat=2)),
    Transform(flip=True, random_shift=1 / 6),
    *(Transform(blur=(x / 288, y / 288), random_shift=1 / 6) for x, y in ((3, 1), (1, 3), (2, 2))),
    *(Transform(angle=angle, random_shift=1 / 6) for angle in (10, -10, 45, -45)),
)
"""The twelve of the published DiMP tracker (arXiv 1904.07220), besides the identity.

On its 288-pixel crops: translations by 86.4 pixels, blurs of 1 to 3 pixels, random shifts of up to 48 pixels.
"""


class Augmented(NamedTuple):
    """Crops of one frame, and the target's box in each.

    Attributes:
        crops: N pairs of images ``(size, size, 3)``.
        boxes: ``(N, 4)`` as ``x y w h``, crop pixels.
    """

    crops: list[Pair[Image]]
    boxes: Array


def augment(
    patches: Pair[Image],
    box: ArrayLike,
    size: int,
    transforms: Sequence[Transform],
    generator: np.random.Generator,
) -> Augmented:
    """Return one crop per transform, cut from the middle of the transformed patch.

    The box moves by the transform's shift; rotation does not change it.

    Args:
        patches: square images ``(P, P, 3)`` around the target, larger than the crops, so that shifted and rotated crops
            show the scene in place of repeated borders. If both are one image, it is transformed once.
        box: the target, ``(4,)`` as ``x y w h``, patch pixels.
        size: the crops' side, pixels.
        transforms: one per crop.
        generator: source of the random shifts.
    """
    box = np.asarray(box, dtype=np.float64)
    margin = (patches.rgb.shape[0] - size) / 2
    crops, boxes = [], []
    for transform in transforms:
        drawn = generator.uniform(-transform.random_shift, transform.random_shift, 2)
        # Whole pixels: a fractional shift would blur the crop.
        corner = np.rint(margin - size * (transform.shift + drawn))
        matrix = _affine_matrix(centers(box), transform)
        matrix[:, 2] -= corner
        sigmas = tuple(size * deviation for deviation in transform.blur)
        rgb = _warp(_blur(patches.rgb, sigmas), matrix, size)
        tir = rgb if patches.tir is patches.rgb else _warp(_blur(patches.tir, sigmas), matrix, size)
        crops.append(Pair(rgb, tir))
        boxes.append(box - [*corner, 0, 0])
    return Augmented(crops, np.stack(boxes))


def _affine_matrix(center: Array, transform: Transform) -> NDArray[np.float64]:
    """Return the affine map ``(2, 3)`` that rotates and mirrors about a center, in pixel indices."""
    x, y = center - 0.5  # pixel i covers i to i + 1
    rotation = np.asarray(cv2.getRotationMatrix2D((x, y), transform.angle, 1.0))
    mirror = np.array([[-1, 0, 2 * x], [0, 1, 0], [0, 0, 1]]) if transform.flip else np.eye(3)
    return np.asarray(rotation @ mirror)


def _blur(image: Image, sigmas: tuple[float, ...]) -> Image:
    if not any(sigmas):
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigmaX=sigmas[0], sigmaY=sigmas[1]), dtype=np.uint8)


def _warp(image: Image, matrix: NDArray[np.float64], size: int) -> Image:
    warped = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.uint8)
