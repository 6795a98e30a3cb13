"""Patch samplers of TIR-CMD, which choose unlabeled regions of a pair of images, and cutting of the regions."""

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
    """A patch sampler: any callable that chooses regions of an aligned pair as targets, one set for both modalities.

    ``CenterArea``, ``RandomSampling`` and ``Detection`` are patch samplers.
    """

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return boxes ``(P, 4)``, ``x y w h`` in pixels, inside the image; P may be 0.

        Args:
            pair: images ``(C, H, W)`` of one size, with 1 or 3 channels.
            generator: the random generator; PyTorch's default one if not given.
        """


def check_images(where: str, pair: Pair[Tensor]) -> tuple[int, int]:
    """Return the height and width of a pair's images.

    Raises:
        ShapeError: the images are not ``(1 or 3, H, W)``, differ in size or are complex.
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

    The paper does not give its size. By default the side is a fifth of the image's shorter side. DiMP's search area,
    five times the target's side, then just fits into the image.

    Sun et al., ACM Multimedia 2021, section 4.2, https://arxiv.org/abs/2108.00187.

    Attributes:
        fraction: the square's side as a fraction of the image's shorter side; above 0, at most 1.

    Raises:
        ValueError: a fraction out of its range.
        ShapeError: when called, images that are no images or differ in size.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tir_cmd import CenterArea
        >>> CenterArea(fraction=0.25)(Pair(torch.zeros(3, 80, 120), torch.zeros(1, 80, 120)))
        tensor([[50., 30., 20., 20.]])
    """

    fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse a fraction out of range."""
        check_fraction("CenterArea", "fraction", self.fraction)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:  # noqa: ARG002
        """Return the box ``(1, 4)``, ``x y w h`` in pixels."""
        height, width = check_images("CenterArea", pair)
        side = self.fraction * min(height, width)
        return torch.tensor([[(width - side) / 2, (height - side) / 2, side, side]], device=pair[0].device)


@dataclass(frozen=True)
class RandomSampling:
    """TIR-CMD's "random sampling": regions of about a sixth of the image's area, anywhere in it.

    The paper says "approximately 1/6 size of the image" and does not give the shape. Here the area is exact and the
    aspect ratio is drawn log-uniformly from ``1 / aspect`` to ``aspect``. A region that would not fit gets an aspect
    ratio nearer to the image's.

    The paper resizes each region to 100x100 pixels; see ``cut_patches``. A tracker that crops around boxes, as DiMP
    does, needs the boxes only.

    Sun et al., ACM Multimedia 2021, section 4.2, https://arxiv.org/abs/2108.00187.

    Attributes:
        count: number of regions, at least 1.
        fraction: a region's area as a fraction of the image's area; above 0, at most 1.
        aspect: the largest ratio of a region's sides, at least 1.

    Raises:
        ValueError: an argument out of range.
        ShapeError: when called, images that are no images or differ in size.

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
    fraction: float = 1 / 6
    aspect: float = 4 / 3

    def __post_init__(self) -> None:
        """Refuse arguments out of range."""
        check_int("RandomSampling", "count", self.count)
        check_fraction("RandomSampling", "fraction", self.fraction)
        check_number("RandomSampling", "aspect", self.aspect, low=1)

    def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:
        """Return the boxes ``(count, 4)``, ``x y w h`` in pixels."""
        height, width = check_images("RandomSampling", pair)
        device = "cpu" if generator is None else generator.device
        ratio, right, down = torch.rand(3, self.count, generator=generator, device=device)
        area = self.fraction * height * width
        w = (area * self.aspect ** (2 * ratio - 1)).sqrt().clamp(self.fraction * width, width)
        h = (area / w).clamp(max=height)
        boxes = torch.stack([right * (width - w), down * (height - h), w, h], dim=1)
        return boxes.to(pair[0].device)


TOLERANCE = 1e-3
"""Pixels by which rounding may move a box over the image's border."""

MAX_SIZE = 2**13
"""The largest height and width of a patch, pixels."""


def cut_patches(pair: Pair[Tensor], boxes: Tensor, size: int = 100) -> Pair[Tensor]:
    """Return the regions of both images as patches of one size, for trackers that take patches.

    The regions are resized bilinearly with antialiasing, so every pixel of a region that shrinks counts. Boxes may
    have fractional coordinates. If a box leaves the image, the image's border pixels are repeated.

    Args:
        pair: images ``(C, H, W)`` of one size.
        boxes: ``(P, 4)``, ``x y w h`` in pixels, with an area and at least partly inside the image.
        size: the patches' height and width in pixels; 100 in the paper.

    Returns:
        Patches ``(P, C, size, size)`` of the images' dtypes; rounded for integers.

    Raises:
        ShapeError: images that are no images or differ in size; values that are no boxes; a box without area or outside
            the image.
        NotFiniteError: boxes with NaN or infinity.
        ValueError: a size out of range.

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
    boxes = _check_boxes(boxes, height, width).to(pair[0].device)
    rows = _pixel_weights(boxes[:, 1], boxes[:, 3], height, size)
    columns = _pixel_weights(boxes[:, 0], boxes[:, 2], width, size)
    return Pair(*(_resample(image, rows, columns) for image in pair))


def _check_boxes(boxes: object, height: int, width: int) -> Tensor:
    """Return the boxes in float32 or wider; refuse values that are no boxes, and boxes outside the image."""
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
    valid = (boxes[:, 2:] > 0).all(dim=1) & (boxes[:, :2] < sides).all(dim=1) & (ends > 0).all(dim=1)
    if can_read_values([boxes]) and not bool(valid.all()):
        number = int((~valid).nonzero()[0])
        expected = f"w and h above 0, and a part inside the image of {height}x{width}"
        raise ShapeError("cut_patches", f"box {number}", "x y w h", expected=expected, got=boxes[number].tolist())
    return boxes


def _pixel_weights(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Return an image's pixel weights for each pixel of a patch, along one axis: ``(P, size, pixels)``, of sum 1."""
    step = (length / size)[:, None]
    positions = start[:, None] + step * (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5)
    centers = torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5
    radius = step.clamp(min=1)
    weights = (1 - (positions[..., None] - centers).abs() / radius[..., None]).clamp(min=0)
    # The border pixels also get the weights of pixels beyond the border, if the box leaves the image.
    leaves = ((start < -TOLERANCE) | (start + length > pixels + TOLERANCE))[:, None]
    weights[..., 0] += torch.where(leaves, _weight_below_zero(positions, radius), 0.0)
    weights[..., -1] += torch.where(leaves, _weight_below_zero(pixels - positions, radius), 0.0)
    return weights / weights.sum(dim=-1, keepdim=True)


def _weight_below_zero(positions: Tensor, radius: Tensor) -> Tensor:
    """Return the weight of all pixels below 0, as if the image went on: the triangle around each position."""

    def tail(distance: Tensor) -> Tensor:
        """Return the sum of ``1 - d / radius`` for d from ``distance`` on, in steps of 1, while it is positive."""
        count = (torch.floor(radius - distance) + 1).clamp(min=0)
        return count - (count * distance + count * (count - 1) / 2) / radius

    fraction = (positions - 0.5) - torch.floor(positions - 0.5)
    total = tail(fraction) + tail(1 - fraction)
    inside = tail((0.5 - positions).clamp(min=0))
    return torch.where(positions >= -0.5, tail((positions + 0.5).clamp(min=0)), (total - inside).clamp(min=0))


def _resample(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    values = to_float32(image)
    patches = torch.einsum("pyh,chw,pxw->pcyx", rows.to(values), values, columns.to(values))
    return patches.to(image.dtype) if image.is_floating_point() else patches.round().to(image.dtype)
