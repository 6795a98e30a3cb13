"""The search area: which part of a frame the network sees."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.data.boxes import Array, centres, from_centre
from mmdistill.reference.data.crops import CropGeometry, crop_geometry, cut
from mmdistill.reference.data.sequence import Image
from mmdistill.reference.data.tensors import to_tensor
from mmdistill.reference.networks.classifier import TargetClassifier
from mmdistill.reference.networks.rgbt import NetworkSettings
from mmdistill.reference.tracking.motion import Target

STRIDE = TargetClassifier.STRIDE


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
    return Pair(*images.to(like).chunk(2))
