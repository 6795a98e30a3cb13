"""A plain detector that needs no weights: boxes that differ from what is on every side of them.

How much boxes at every place of an image differ from each of their four sides, by an integral image.

Greedy suppression: of boxes that overlap, the best alone.
"""

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
    """A rectangle by its edges, pixels, counted from where a box begins."""

    top: int
    bottom: int
    left: int
    right: int


class IntegralImage(NamedTuple):
    """Sums over what is above and left of each corner of an image's pixels.

    Attributes:
        sums: ``(1 + 2C, margin + H + 1 + margin, ...)``: of ones, values and squares; in float64, as variances are
            differences of large sums.
        margin: by how much they go on beyond the image, which is empty there.
    """

    sums: Tensor
    margin: int


def integral(image: Tensor, margin: int) -> IntegralImage:
    """Return the integral image of ``(C, H, W)``; boxes' sides may reach ``margin`` pixels beyond the image."""
    centerd = image.double() - image.double().mean(dim=(1, 2), keepdim=True)
    powers = torch.cat([torch.ones_like(centerd[:1]), centerd, centerd.square()])
    sums = F.pad(powers.cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))
    return IntegralImage(F.pad(sums[None], (margin,) * 4, mode="replicate")[0], margin)


def contrast(image: IntegralImage, shape: tuple[int, int], floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes of one shape at every place and how much they differ from their sides.

    Above, below, left and right of a box lies a strip half as deep as the box, less where the image ends. The contrast
    is Fisher's, of the means against the variances, with the strip most like the box, and 0 where the box is not
    brighter than all four or darker than all four: the sky is like the sky beside it. Contrasts of the channels are
    added.

    Args:
        image: as an integral image, whose margin is half the boxes' longer side at least.
        shape: the boxes' height and width, pixels.
        floor: added to each channel's variances, ``(C,)``, above 0.

    Returns:
        Boxes ``(K, 4)``, ``x y w h``, and contrasts ``(K,)``. A box at the border has a side unseen and is left out.
    """
    rows, columns = shape
    # From one pixel inside to one pixel before the end.
    places = tuple(
        max(0, size - 2 - 2 * image.margin - side) for size, side in zip(image.sums.shape[1:], shape, strict=True)
    )
    deep, wide = max(1, round(rows / 2)), max(1, round(columns / 2))
    mean, variance = _statistics(image, places, Region(0, rows, 0, columns))
    differences = []
    for side in (
        Region(-deep, 0, 0, columns),
        Region(rows, rows + deep, 0, columns),
        Region(0, rows, -wide, 0),
        Region(0, rows, columns, columns + wide),
    ):
        beside, spread = _statistics(image, places, side)
        differences.append((mean - beside) / (variance + spread + floor[:, None, None]).sqrt())
    stacked = torch.stack(differences)
    alike = torch.maximum(stacked.amin(dim=0), -stacked.amax(dim=0)).clamp(min=0)
    y, x = torch.meshgrid(*(torch.arange(1, 1 + count, device=mean.device) for count in places), indexing="ij")
    boxes = torch.stack([x, y, torch.full_like(x, columns), torch.full_like(x, rows)], dim=-1)
    return boxes.flatten(0, 1), alike.square().sum(dim=0).flatten()


def _statistics(image: IntegralImage, places: tuple[int, ...], region: Region) -> tuple[Tensor, Tensor]:
    """Return mean and variance ``(C, *places)`` inside a region, laid at every place."""

    def corner(down: int, right: int) -> Tensor:
        rows, columns = (
            slice(image.margin + 1 + offset, image.margin + 1 + offset + count)
            for offset, count in zip((down, right), places, strict=True)
        )
        return image.sums[:, rows, columns]

    top, bottom, left, right = region
    sums = corner(bottom, right) - corner(top, right) - corner(bottom, left) + corner(top, left)
    count, (values, squares) = sums[:1], sums[1:].chunk(2)
    mean = values / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def non_maximum_suppression(boxes: Tensor, overlap: float, maximum: int) -> Tensor:
    """Return the indices ``(K,)`` of the boxes that overlap no box kept before them by more.

    Args:
        boxes: ``(N, 4)``, ``x y w h``, best first.
        overlap: intersection over union.
        maximum: at most so many are kept.
    """
    left = torch.arange(len(boxes), device=boxes.device)
    kept: list[Tensor] = []
    while len(left) and len(kept) < maximum:
        best, left = left[0], left[1:]
        kept.append(best)
        left = left[intersection_over_union(boxes[left], boxes[best]) <= overlap]
    return torch.stack(kept) if kept else left


@dataclass(frozen=True)
class SaliencyDetector:
    """Boxes that stand out by center-surround contrast, in any image: for ``Detection`` where no detector is at hand.

    Boxes of a few sizes and aspect ratios are laid at every place of the reduced image. The score is the contrast with
    the one of its four sides that is most like the box, so that a box must differ all around, times the root of its
    area, lest a few noisy pixels win; divided by the image's highest, so that the best box has 1. It finds cars,
    people, signs and lamps, and patches of ground too: it knows no classes, and doesn't replace a trained detector.
    IntegralImage images make the cost independent of the boxes' sizes.

    Attributes:
        side: to which the image's shorter side is reduced first, pixels.
        sizes: the root of a box's area, as parts of the image's shorter side.
        aspects: width by height.
        overlap: of boxes that overlap by more, as intersection over union, the best is kept.
        maximum: at most so many boxes.
        floor: added to the variances inside and beside a box, as a part of the whole image's.

    Raises:
        ValueError: a setting out of its range.
        ShapeError: when called, what is no image ``(C, H, W)``.

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
    overlap: float = 0.3
    maximum: int = 16
    floor: float = 0.05

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        check_int("SaliencyDetector", "side", self.side, low=4, high=4096)
        check_sequence("SaliencyDetector", "sizes", self.sizes, check_fraction)
        check_sequence("SaliencyDetector", "aspects", self.aspects, _aspect)
        check_number("SaliencyDetector", "overlap", self.overlap, low=0, high=1)
        check_int("SaliencyDetector", "maximum", self.maximum)
        check_number("SaliencyDetector", "floor", self.floor, low=0)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return boxes ``(K, 4)`` as ``x y w h`` in pixels, scores and labels (all 0), best first.

        K is 0 where nothing differs from its surroundings.
        """
        check_axes("SaliencyDetector", "image", image, ("channels", "height", "width"))
        small = _reduced(image, self.side)
        height, width = small.shape[1:]
        variance = small.var(dim=(1, 2), correction=0)
        floor = (self.floor * variance).clamp(min=torch.finfo(small.dtype).tiny).double()
        shapes = self._shapes(height, width)
        sums = integral(small, margin=(max(map(max, shapes)) + 1) // 2)
        found = [contrast(sums, shape, floor) for shape in shapes]
        boxes, contrasts = (torch.cat(parts) for parts in zip(*found, strict=True))
        scores = contrasts * boxes[:, 2:].prod(dim=1).sqrt()
        order = scores.argsort(descending=True)[: int((scores != 0).sum())]
        boxes, scores = boxes[order].float(), scores[order].float()
        kept = non_maximum_suppression(boxes, self.overlap, self.maximum)
        enlargement = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2, device=boxes.device)
        best = scores[:1]  # empty where there is none
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


def _reduced(image: Tensor, side: int) -> Tensor:
    """Return the image with a shorter side of at most ``side`` pixels, in float32 at least."""
    values = to_float32(image)
    factor = min(1.0, side / min(image.shape[1:]))
    if factor == 1:
        return values
    size = [max(1, round(factor * pixels)) for pixels in image.shape[1:]]
    return F.interpolate(values[None], size=size, mode="bilinear", antialias=True)[0]
