"""Cutting regions out of a pair of images, brought to one size."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill.errors import ShapeError
from mmdistill.pair import Pair
from mmdistill.reductions import widen
from mmdistill.unsupervised.patches.protocol import check_images


def cut_patches(pair: Pair[Tensor], boxes: Tensor, size: int = 100) -> Pair[Tensor]:
    """Return the regions of both images as patches of one size, for trackers that take patches.

    Bilinear with antialiasing: where a region shrinks, every pixel of it counts. Boxes need not lie on whole pixels;
    the pixels next to a region have their part in its border, as they should between pixels.

    Args:
        pair: images ``(C, H, W)`` of one size.
        boxes: ``(P, 4)``, ``x y w h`` in pixels, inside the image.
        size: the patches' height and width, pixels; 100 in the paper.

    Returns:
        Patches ``(P, C, size, size)`` of the images' own types; rounded where those are integers.

    Raises:
        ShapeError: images that are none or differ in size, or what is no boxes.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.unsupervised import cut_patches
        >>> image = torch.arange(8.0).expand(1, 8, 8)
        >>> cut_patches(Pair(image, image), torch.tensor([[2.0, 2.0, 4.0, 4.0]]), size=2).rgb[0, 0]
        tensor([[2.5000, 4.5000],
                [2.5000, 4.5000]])
    """
    height, width = check_images("cut_patches", pair)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ShapeError("cut_patches", "boxes", "axes", expected="(P, 4)", got=tuple(boxes.shape))
    if size < 1:
        raise ShapeError("cut_patches", "size", "pixels", expected="at least 1", got=size)
    boxes = widen(boxes).to(pair[0].device)
    rows = _shares(boxes[:, 1], boxes[:, 3], height, size)
    columns = _shares(boxes[:, 0], boxes[:, 2], width, size)
    return Pair(*(_resampled(image, rows, columns) for image in pair))


def _shares(start: Tensor, length: Tensor, pixels: int, size: int) -> Tensor:
    """Return each of an image's pixels' share in each of a patch's, along one axis: ``(P, size, pixels)``, sum 1."""
    step = (length / size)[:, None]
    places = start[:, None] + step * (torch.arange(size, device=start.device, dtype=start.dtype) + 0.5)
    centres = torch.arange(pixels, device=start.device, dtype=start.dtype) + 0.5
    distance = (places[..., None] - centres).abs() / step[..., None].clamp(min=1)
    share = (1 - distance).clamp(min=0)
    return share / share.sum(dim=-1, keepdim=True)


def _resampled(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    values = widen(image)
    patches = torch.einsum("pyh,chw,pxw->pcyx", rows.to(values), values, columns.to(values))
    return patches.to(image.dtype) if image.is_floating_point() else patches.round().to(image.dtype)
