"""The search area: which part of a frame the network sees."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.data.boxes import Array, centres, from_centre
from mmdistill.reference.data.crops import CropGeometry, crop_geometry, cut
from mmdistill.reference.data.sequence import FramePair, Image
from mmdistill.reference.data.tensors import to_tensor
from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.classifier import TargetClassifier
from mmdistill.reference.networks.rgbt import NetworkSettings
from mmdistill.reference.tracking.motion import Target

STRIDE = TargetClassifier.STRIDE


def complete(frame: FramePair, *, where: str) -> Pair[Image]:
    """Return both images of a frame; the one that is there stands in for a missing one.

    Args:
        frame: aligned images, at least one.
        where: what got the frame, named in the error.

    Raises:
        DataError: neither is there, or they differ in size.
    """
    rgb = frame.rgb if frame.rgb is not None else frame.tir
    tir = frame.tir if frame.tir is not None else frame.rgb
    if rgb is None or tir is None:
        raise DataError(f"{where}: expected an RGB or a TIR image, got neither")
    if rgb.shape[:2] != tir.shape[:2]:
        sizes = " and ".join(f"{width} x {height}" for height, width in (rgb.shape[:2], tir.shape[:2]))
        raise DataError(f"{where}: expected aligned RGB and TIR images of one size, got {sizes} pixels")
    return Pair(rgb, tir)


def search_geometry(target: Target, network: NetworkSettings, factor: int = 1) -> CropGeometry:
    """Return the square around a target that the network sees.

    Score cells stand at multiples of the stride. When the crop is an odd number of them long, its centre lies between
    two; the square is then half a cell further right and down, so that the target is centred on a cell.

    Args:
        target: what to look for.
        network: says how large its crops and score maps are.
        factor: how many times as large the square and its crop are to be.
    """
    shift = network.feature_size % 2 * STRIDE / 2
    size = network.crop_size * factor
    return crop_geometry(centres(target.box) + shift * target.scale, size * target.scale, size)


def in_cells(box: Array, network: NetworkSettings) -> tuple[Array, Array]:
    """Return a box's centre, from the score map's centre, and its size; each ``(2,)`` as x, y, cells.

    Args:
        box: ``(4,)`` as ``x y w h``, crop pixels.
        network: says how large its crops and score maps are.
    """
    return centres(box) / STRIDE - (network.score_size - 1) / 2, box[2:] / STRIDE


def at_cell(displacement: Array, size: Array, network: NetworkSettings) -> Array:
    """Return the box ``(4,)`` in crop pixels whose centre is there: the inverse of ``in_cells``.

    Args:
        displacement: x, y from the score map's centre, cells.
        size: width and height, crop pixels.
        network: says how large its crops and score maps are.
    """
    return from_centre(STRIDE * (displacement + (network.score_size - 1) / 2), size)


def cut_pair(images: Pair[Image], geometry: CropGeometry) -> Pair[Image]:
    """Return the crops of both images."""
    return Pair(*(cut(image, geometry) for image in images))


def stack(crops: Sequence[Pair[Image]], like: Tensor) -> Pair[Tensor]:
    """Return crops as normalised images ``(B, 3, H, W)``, with the device and the type of a tensor."""
    images = to_tensor([*(crop.rgb for crop in crops), *(crop.tir for crop in crops)])
    return Pair(*images.to(like, memory_format=torch.channels_last).chunk(2))
