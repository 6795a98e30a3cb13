"""A detector without weights, by center-surround contrast on integral images, and non-maximum suppression."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill._checks.arguments import check_fraction, check_int, check_number, check_sequence
from mmdistill._checks.shapes import check_axes
from mmdistill._numerics import to_float32
from mmdistill.tir_cmd.boxes import intersection_over_union


class Region(NamedTuple):
    """A rectangle by its edges in pixels, relative to a box's upper left corner."""

    top: int
    bottom: int
    left: int
    right: int


class IntegralImage(NamedTuple):
    """An integral image: at each pixel corner, the sums over all pixels above and left of it.

    Attributes:
        sums: ``(1 + 2C, margin + H + 1 + margin, ...)``, the sums of ones, values and squares; in float64, because
            variances are differences of large sums.
        margin: pixels of empty border around the image.
    """

    sums: Tensor
    margin: int


def integral_image(image: Tensor, margin: int) -> IntegralImage:
    """Return the integral image of ``(C, H, W)``; regions may reach ``margin`` pixels beyond the image."""
    centered = image.double() - image.double().mean(dim=(1, 2), keepdim=True)
    powers = torch.cat([torch.ones_like(centered[:1]), centered, centered.square()])
    sums = F.pad(powers.cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))
    return IntegralImage(F.pad(sums[None], (margin,) * 4, mode="replicate")[0], margin)


def surround_contrast(image: IntegralImage, shape: tuple[int, int], floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes of one shape at every position, and their contrast with their surroundings.

    Above, below, left and right of a box lies a strip, half as deep as the box, or less at the image's border. The
    contrast is Fisher's (difference of means over variances) with the most similar strip, so a box must differ on all
    sides. It is 0 unless the box is brighter than all four strips, or darker than all four. Contrasts are summed over
    channels.

    Args:
        image: the integral image, with a margin of at least half the boxes' longer side.
        shape: the boxes' height and width, pixels.
        floor: added to each channel's variances, ``(C,)``, above 0.

    Returns:
        Boxes ``(K, 4)``, ``x y w h``, and contrasts ``(K,)``. Boxes that touch the image's border are left out.
    """
    rows, columns = shape
    # From one pixel inside the border to one pixel before the opposite border.
    counts = tuple(
        max(0, size - 2 - 2 * image.margin - side) for size, side in zip(image.sums.shape[1:], shape, strict=True)
    )
    depth, breadth = max(1, round(rows / 2)), max(1, round(columns / 2))
    mean, variance = _statistics(image, counts, Region(0, rows, 0, columns))
    differences = []
    for side in (
        Region(-depth, 0, 0, columns),
        Region(rows, rows + depth, 0, columns),
        Region(0, rows, -breadth, 0),
        Region(0, rows, columns, columns + breadth),
    ):
        side_mean, side_variance = _statistics(image, counts, side)
        differences.append((mean - side_mean) / (variance + side_variance + floor[:, None, None]).sqrt())
    stacked = torch.stack(differences)
    smallest = torch.maximum(stacked.amin(dim=0), -stacked.amax(dim=0)).clamp(min=0)
    y, x = torch.meshgrid(*(torch.arange(1, 1 + count, device=mean.device) for count in counts), indexing="ij")
    boxes = torch.stack([x, y, torch.full_like(x, columns), torch.full_like(x, rows)], dim=-1)
    return boxes.flatten(0, 1), smallest.square().sum(dim=0).flatten()


def _statistics(image: IntegralImage, counts: tuple[int, ...], region: Region) -> tuple[Tensor, Tensor]:
    """Return the means and variances ``(C, *counts)`` inside a region at every position."""

    def corner(down: int, right: int) -> Tensor:
        rows, columns = (
            slice(image.margin + 1 + offset, image.margin + 1 + offset + count)
            for offset, count in zip((down, right), counts, strict=True)
        )
        return image.sums[:, rows, columns]

    top, bottom, left, right = region
    sums = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    count, (values, squares) = sums[:1], sums[1:].chunk(2)
    mean = values / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def non_maximum_suppression(boxes: Tensor, max_overlap: float, max_boxes: int) -> Tensor:
    """Return the indices ``(K,)`` of the boxes that overlap no better kept box by more than ``max_overlap``.

    Args:
        boxes: ``(N, 4)``, ``x y w h``, best first.
        max_overlap: IoU, 0 to 1.
        max_boxes: at most so many boxes are kept.
    """
    remaining = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(remaining) and len(kept) < max_boxes:
        best, remaining = remaining[0], remaining[1:]
        kept.append(best)
        remaining = remaining[intersection_over_union(boxes[remaining], boxes[best]) <= max_overlap]
    return torch.stack(kept) if kept else remaining


@dataclass(frozen=True)
class SaliencyDetector:
    """A detector of boxes that differ from their surroundings; for ``Detection`` if no trained detector is available.

    Boxes of a few sizes and aspect ratios are evaluated at every position of a reduced image. The score is the contrast
    with the most similar of the box's four sides, times the square root of its area, so that a few noisy pixels do not
    win. Scores are divided by the image's highest. It finds cars, people, signs and lamps, but also patches of ground:
    it knows no classes and does not replace a trained detector. Integral images make the cost independent of the
    boxes' sizes.

    Attributes:
        side: the shorter side of the reduced image, pixels.
        sizes: square roots of the boxes' areas, as fractions of the image's shorter side.
        aspects: width by height.
        max_overlap: IoU above which only the better of two boxes is kept.
        max_boxes: at most so many boxes are kept.
        floor: added to variances, as a fraction of the whole image's variance.

    Raises:
        ValueError: an argument out of range.
        ShapeError: when called, an image that is not ``(C, H, W)``.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd import SaliencyDetector
        >>> image = torch.zeros(1, 60, 80)
        >>> image[:, 20:36, 30:46] = 1
        >>> boxes, scores, labels = SaliencyDetector(sizes=(16 / 60,), aspects=(1.0,))(image)
        >>> boxes[0], scores[0]
        (tensor([30., 20., 16., 16.]), tensor(1.))
    """

    side: int = 72
    sizes: tuple[float, ...] = (0.1, 0.14, 0.2, 0.28, 0.4)
    aspects: tuple[float, ...] = (0.4, 0.63, 1.0, 1.6, 2.5)
    max_overlap: float = 0.3
    max_boxes: int = 16
    floor: float = 0.05

    def __post_init__(self) -> None:
        """Refuse arguments out of range."""
        check_int("SaliencyDetector", "side", self.side, low=4, high=4096)
        check_sequence("SaliencyDetector", "sizes", self.sizes, check_fraction)
        check_sequence("SaliencyDetector", "aspects", self.aspects, _aspect)
        check_number("SaliencyDetector", "max_overlap", self.max_overlap, low=0, high=1)
        check_int("SaliencyDetector", "max_boxes", self.max_boxes)
        check_number("SaliencyDetector", "floor", self.floor, low=0)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(K, 4)`` as ``x y w h`` in pixels, scores and labels (all 0), best first.

        K is 0 if nothing differs from its surroundings.
        """
        check_axes("SaliencyDetector", "image", image, ("channels", "height", "width"))
        small = _reduce(image, self.side)
        height, width = small.shape[1:]
        variance = small.var(dim=(1, 2), correction=0)
        floor = (self.floor * variance).clamp(min=torch.finfo(small.dtype).tiny).double()
        shapes = self._shapes(height, width)
        sums = integral_image(small, margin=(max(map(max, shapes)) + 1) // 2)
        candidates = [surround_contrast(sums, shape, floor) for shape in shapes]
        boxes, contrasts = (torch.cat(parts) for parts in zip(*candidates, strict=True))
        scores = contrasts * boxes[:, 2:].prod(dim=1).sqrt()
        order = scores.argsort(descending=True)[: int((scores != 0).sum())]
        boxes, scores = boxes[order].float(), scores[order].float()
        kept = non_maximum_suppression(boxes, self.max_overlap, self.max_boxes)
        enlargement = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2, device=boxes.device)
        best = scores[:1]  # empty if there is none
        return boxes[kept] * enlargement, scores[kept] / best, torch.zeros_like(kept)

    def _shapes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return the boxes' heights and widths, pixels of the reduced image, each pair once."""
        sides = [size * min(height, width) for size in self.sizes]
        shapes = {
            (max(2, round(side / math.sqrt(aspect))), max(2, round(side * math.sqrt(aspect))))
            for side in sides
            for aspect in self.aspects
        }
        return sorted(shapes)


def _aspect(where: str, name: str, value: object) -> float:
    return check_number(where, name, value, low=0.01, high=100)


def _reduce(image: Tensor, side: int) -> Tensor:
    """Return the image with a shorter side of at most ``side`` pixels, in float32 or wider."""
    values = to_float32(image)
    factor = min(1.0, side / min(image.shape[1:]))
    if factor == 1:
        return values
    size = [max(1, round(factor * pixels)) for pixels in image.shape[1:]]
    return F.interpolate(values[None], size=size, mode="bilinear", antialias=True)[0]
