"""What makes patches of a pair of images, and what it asks of the images.

Center area: one square in the middle of the image.

Random sampling: regions of a given area anywhere in the image.

Cutting regions out of a pair of images, brought to one size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mmdistill._checks.arguments import check_fraction, check_int, check_number
from mmdistill._checks.shapes import check_axes, check_pair
from mmdistill._checks.values import check_inputs
from mmdistill._execution import can_read_values
from mmdistill._numerics import to_float32
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
        >>> from mmdistill.tir_cmd import CenterArea
        >>> CenterArea(fraction=0.25)(Pair(torch.zeros(3, 80, 120), torch.zeros(1, 80, 120)))
        tensor([[50., 30., 20., 20.]])
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a fraction that is none."""
        check_fraction("CenterArea", "fraction", self.fraction)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the box ``(1, 4)``, ``x y w h`` in pixels."""
        height, width = check_images("CenterArea", pair)
        side = self.fraction * min(height, width)
        return torch.tensor([[(width - side) / 2, (height - side) / 2, side, side]], device=pair[0].device)


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
        >>> from mmdistill.tir_cmd import RandomSampling
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
        check_int("RandomSampling", "count", self.count)
        check_fraction("RandomSampling", "share", self.share)
        check_number("RandomSampling", "aspect", self.aspect, low=1)

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


TOLERANCE = 1e-3
"""By how much rounding may bring a box over the image's border, pixels."""

MAX_SIZE = 2**13
"""The largest height and width of a patch, pixels."""


def cut_patches(pair: Pair[Tensor], boxes: Tensor, size: int = 100) -> Pair[Tensor]:
    """Return the regions of both images as patches of one size, for trackers that take patches.

    Bilinear with antialiasing: where a region shrinks, every pixel of it counts. Boxes need not lie on whole pixels;
    the pixels next to a region have their part in its border, as they should between pixels. Where a box leaves the
    image, the image's border goes on.

    Args:
        pair: images ``(C, H, W)`` of one size.
        boxes: ``(P, 4)``, ``x y w h`` in pixels, each with an area and at least partly inside the image.
        size: the patches' height and width, pixels; 100 in the paper.

    Returns:
        Patches ``(P, C, size, size)`` of the images' own types; rounded where those are integers.

    Raises:
        ShapeError: images that are none or differ in size, what is no boxes, a box without area or outside the image;
            a ``NotFiniteError`` where the boxes hold NaN or infinity.
        ValueError: a size that is no whole number from 1 on.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tir_cmd import cut_patches
        >>> image = torch.arange(8.0).expand(1, 8, 8)
        >>> cut_patches(Pair(image, image), torch.tensor([[2.0, 2.0, 4.0, 4.0]]), size=2).rgb[0, 0]
        tensor([[2.5000, 4.5000],
                [2.5000, 4.5000]])
    """
    height, width = check_images("cut_patches", pair)
    size = check_int("cut_patches", "size", size, high=MAX_SIZE)
    boxes = _checked(boxes, height, width).to(pair[0].device)
    rows = _shares(boxes[:, 1], boxes[:, 3], height, size)
    columns = _shares(boxes[:, 0], boxes[:, 2], width, size)
    return Pair(*(_resampled(image, rows, columns) for image in pair))


def _checked(boxes: object, height: int, width: int) -> Tensor:
    """Return the boxes in float32 at least; refuse what is none and boxes that show nothing of the image."""
    if not isinstance(boxes, Tensor):
        raise ShapeError("cut_patches", "boxes", "type", expected="a tensor (P, 4)", got=type(boxes).__name__)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError("cut_patches", "boxes", "axes", expected="(P, 4)", got=tuple(boxes.shape))
    if boxes.dtype.is_complex or boxes.dtype == torch.bool:
        raise ShapeError("cut_patches", "boxes", "dtype", expected="floating point or whole pixels", got=boxes.dtype)
    boxes = to_float32(boxes)
    check_inputs("cut_patches", {"boxes": boxes}, finite=True)
    ends = boxes[:, :2] + boxes[:, 2:]
    sides = torch.tensor([width, height], device=boxes.device)
    shown = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < sides).all(dim=1) & (ends > 0).all(dim=1)
    if can_read_values([boxes]) and not bool(shown.all()):
        number = int((~shown).nonzero()[0])
        expected = f"w and h above 0, and a part inside the image of {height}x{width}"
        raise ShapeError("cut_patches", f"box {number}", "x y w h", expected=expected, got=boxes[number].tolist())
    return boxes


def _shares(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Return each of an image's pixels' share in each of a patch's, along one axis: ``(P, size, pixels)``, sum 1."""
    step = (length / size)[:, None]
    places = start[:, None] + step * (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5)
    centers = torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5
    reach = step.clamp(min=1)
    share = (1 - (places[..., None] - centers).abs() / reach[..., None]).clamp(min=0)
    # Of a box that leaves the image, what lies beyond the border is as the border.
    leaves = ((start < -TOLERANCE) | (start + length > pixels + TOLERANCE))[:, None]
    share[..., 0] += torch.where(leaves, _share_beyond(places, reach), 0.0)
    share[..., -1] += torch.where(leaves, _share_beyond(pixels - places, reach), 0.0)
    return share / share.sum(dim=-1, keepdim=True)


def _share_beyond(places: Tensor, reach: Tensor) -> Tensor:
    """Return the share of all pixels below 0, were there any: the triangle around a place, at their centers."""

    def tail(distance: Tensor) -> Tensor:
        """Return the sum of ``1 - d / reach`` over d from a distance on, in steps of 1, while it is positive."""
        count = (torch.floor(reach - distance) + 1).clamp(min=0)
        return count - (count * distance + count * (count - 1) / 2) / reach

    fraction = (places - 0.5) - torch.floor(places - 0.5)
    everywhere = tail(fraction) + tail(1 - fraction)
    inside = tail((0.5 - places).clamp(min=0))
    return torch.where(places >= -0.5, tail((places + 0.5).clamp(min=0)), (everywhere - inside).clamp(min=0))


def _resampled(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    values = to_float32(image)
    patches = torch.einsum("pyh,chw,pxw->pcyx", rows.to(values), values, columns.to(values))
    return patches.to(image.dtype) if image.is_floating_point() else patches.round().to(image.dtype)
