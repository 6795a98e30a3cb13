"""Pictures that show whether an alignment holds: a checkerboard of both images, and a GIF that blinks between them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.sequence import Image
from mmdistill.toolkit.video.video_writer import VideoWriter

SQUARES = 8
"""Squares of a checkerboard along the longer side."""

MAX_SIDE = 960
"""Longest side of a picture, pixels."""

DIMMED = 0.35
"""Brightness of RGB where TIR does not cover it."""

BLINKS_PER_SECOND = 2.0


def checkerboard(pair: Pair[Image], alignment: Alignment) -> Image:
    """Return RGB and warped TIR in alternating squares. Edges continue across squares if the alignment holds.

    Args:
        pair: images ``(H, W, 3)`` of the alignment's sizes.
        alignment: the alignment.

    Returns:
        An image of RGB's size. Pixels that TIR does not cover show RGB, darkened.
    """
    tir = stretch_contrast(alignment.warp(pair.tir), alignment)
    side = max(alignment.rgb_size) / SQUARES
    height, width = pair.rgb.shape[:2]
    rows, columns = (np.arange(length) // side for length in (height, width))
    squares = (rows[:, None] + columns) % 2 == 1
    board = np.where((squares & alignment.mask)[..., None], tir, pair.rgb)
    dimmed = np.where(alignment.mask[..., None], board, DIMMED * board)
    return np.asarray(dimmed, dtype=np.uint8)


def blinking(pair: Pair[Image], alignment: Alignment) -> Pair[Image]:
    """Return RGB and warped TIR, both darkened where TIR does not cover RGB."""
    warped = Pair(pair.rgb, stretch_contrast(alignment.warp(pair.tir), alignment))
    shade = np.where(alignment.mask, 1.0, DIMMED)[..., None]
    return Pair(*(np.asarray(image * shade, dtype=np.uint8) for image in warped))


def stretch_contrast(image: Image, alignment: Alignment) -> Image:
    """Return a warped TIR image with the 1st to 99th percentile of its covered pixels stretched to 0 to 255."""
    covered = image[alignment.mask]
    low, high = np.percentile(covered, [1, 99]) if covered.size else (0.0, 255.0)
    stretched = (image.astype(np.float32) - low) * (255 / max(high - low, 1.0))
    return np.asarray(np.clip(stretched, 0, 255), dtype=np.uint8)


def write_pictures(out: Path, pair: Pair[Image], alignment: Alignment) -> Pair[Path]:
    """Write the checkerboard as PNG and the blinking images as GIF beside an alignment's file; return both paths.

    Args:
        out: the alignment's file; the pictures have its name with other suffixes.
        pair: images ``(H, W, 3)`` of the alignment's sizes.
        alignment: the alignment.
    """
    board, blinker = out.with_suffix(".png"), out.with_suffix(".gif")
    write_image(board, _reduced(checkerboard(pair, alignment)))
    with VideoWriter(blinker, BLINKS_PER_SECOND) as writer:
        for image in blinking(pair, alignment):
            writer.write(_reduced(image))
    return Pair(board, blinker)


def _reduced(image: Image) -> Image:
    scale = MAX_SIDE / max(image.shape[:2])
    if scale >= 1:
        return image
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
