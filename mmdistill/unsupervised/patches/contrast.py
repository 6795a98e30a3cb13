"""How much boxes at every place of an image differ from each of their four sides, by an integral image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Region(NamedTuple):
    """A rectangle by its edges, pixels, counted from where a box begins."""

    top: int
    bottom: int
    left: int
    right: int


class Integral(NamedTuple):
    """Sums over what is above and left of each corner of an image's pixels.

    Attributes:
        sums: ``(1 + 2C, margin + H + 1 + margin, ...)``: of ones, values and squares; in float64, as variances are
            differences of large sums.
        margin: by how much they go on beyond the image, which is empty there.
    """

    sums: Tensor
    margin: int


def integral(image: Tensor, margin: int) -> Integral:
    """Return the integral image of ``(C, H, W)``; boxes' sides may reach ``margin`` pixels beyond the image."""
    centred = image.double() - image.double().mean(dim=(1, 2), keepdim=True)
    powers = torch.cat([torch.ones_like(centred[:1]), centred, centred.square()])
    sums = F.pad(powers.cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))
    return Integral(F.pad(sums[None], (margin,) * 4, mode="replicate")[0], margin)


def contrast(image: Integral, shape: tuple[int, int], floor: Tensor) -> tuple[Tensor, Tensor]:
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


def _statistics(image: Integral, places: tuple[int, ...], region: Region) -> tuple[Tensor, Tensor]:
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
