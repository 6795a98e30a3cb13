"""How much boxes at every place of an image differ from each of their four sides, by integral images."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Edges(NamedTuple):
    """Where boxes begin and end: rows ``(R,)`` and columns ``(K,)``, the last exclusive."""

    top: Tensor
    bottom: Tensor
    left: Tensor
    right: Tensor


def integral(image: Tensor) -> Tensor:
    """Return the sums ``(3, C, H + 1, W + 1)`` of ones, values and squares above and left of each corner.

    Args:
        image: ``(C, H, W)``; in float64, as variances are differences of large sums.
    """
    centred = image.double() - image.double().mean(dim=(1, 2), keepdim=True)
    powers = torch.stack([torch.ones_like(centred), centred, centred.square()])
    return F.pad(powers.cumsum(dim=-1).cumsum(dim=-2), (1, 0, 1, 0))


def contrast(sums: Tensor, shape: tuple[int, int], floor: Tensor) -> tuple[Tensor, Tensor]:
    """Return boxes of one shape at every place and how much they differ from their sides.

    Above, below, left and right of a box lies a strip half as deep as the box, less where the image ends. The contrast
    is Fisher's, of the means against the variances, with the strip most like the box, and 0 where the box is not
    brighter than all four or darker than all four: the sky is like the sky beside it. Contrasts of the channels are
    added.

    Args:
        sums: of the image, as ``integral`` returns them.
        shape: the boxes' height and width, pixels.
        floor: added to each channel's variances, ``(C,)``, above 0.

    Returns:
        Boxes ``(K, 4)``, ``x y w h``, and contrasts ``(K,)``. A box at the border has a side unseen and is left out.
    """
    height, width = sums.shape[-2] - 1, sums.shape[-1] - 1
    rows, columns = shape
    deep, wide = max(1, round(rows / 2)), max(1, round(columns / 2))
    top, left = (torch.arange(1, max(1, most), device=sums.device) for most in (height - rows, width - columns))
    bottom, right = top + rows, left + columns
    mean, variance = _statistics(sums, Edges(top, bottom, left, right))
    strips = (
        Edges((top - deep).clamp(min=0), top, left, right),
        Edges(bottom, (bottom + deep).clamp(max=height), left, right),
        Edges(top, bottom, (left - wide).clamp(min=0), left),
        Edges(top, bottom, right, (right + wide).clamp(max=width)),
    )
    differences = []
    for strip in strips:
        beside, spread = _statistics(sums, strip)
        differences.append((mean - beside) / (variance + spread + floor[:, None, None]).sqrt())
    stacked = torch.stack(differences)
    alike = torch.maximum(stacked.amin(dim=0), -stacked.amax(dim=0)).clamp(min=0)
    y, x = torch.meshgrid(top, left, indexing="ij")
    boxes = torch.stack([x, y, torch.full_like(x, columns), torch.full_like(x, rows)], dim=-1)
    return boxes.flatten(0, 1), alike.square().sum(dim=0).flatten()


def _statistics(sums: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Return mean and variance inside every box, ``(C, R, K)``."""
    down = sums[..., edges.bottom, :] - sums[..., edges.top, :]
    count, values, squares = down[..., edges.right] - down[..., edges.left]
    mean = values / count
    return mean, (squares / count - mean.square()).clamp(min=0)
