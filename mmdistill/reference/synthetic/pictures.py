"""Textures from photographs and cut-outs without thermal images; the thermal side is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmdistill.pair import Pair
from mmdistill.reference.synthetic.simulated_thermal import simulate_thermal_object, simulate_thermal_scene
from mmdistill.reference.synthetic.textures import Foreground, Texture
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import read_image, read_pixels
from mmdistill.toolkit.sequence import Image

NUM_CACHED = 256
"""Number of decoded pictures that stay in memory."""

CROP_SCALE = (0.35, 1.0)
"""Range of a background's side, as a share of the largest crop of the photograph."""

NUM_CLUTTER = (0, 9)
"""Range of the number of cut-outs in a background, the end excluded."""

CLUTTER_SIDE = (0.06, 0.4)
"""Range of a cut-out's side in a background, as a share of the background's shorter side."""

NUM_SHAPE_CANDIDATES = 6
"""Number of cut-outs drawn for an object; the one whose aspect ratio is nearest to the object's is used."""


class PictureTextures:
    """Backgrounds from photographs and foregrounds from cut-outs, with simulated thermal images.

    Args:
        photographs: image files.
        cutouts: image files with an alpha channel; each shows one object.

    Raises:
        DataError: there are no photographs or no cut-outs.
    """

    def __init__(self, photographs: Sequence[Path], cutouts: Sequence[Path]) -> None:
        for kind, files in (("photograph", photographs), ("cut-out", cutouts)):
            if not files:
                raise DataError(f"pictures: expected at least 1 {kind}, got none")
        self.photographs, self.cutouts = list(photographs), list(cutouts)

    def background(self, generator: np.random.Generator, size: tuple[int, int]) -> Texture:
        """Return a random crop of a photograph with some cut-outs, resized to ``size`` (width, height)."""
        image = _photograph(self.photographs[generator.integers(len(self.photographs))])
        height, width = image.shape[:2]
        scale = min(width / size[0], height / size[1]) * generator.uniform(*CROP_SCALE)
        crop_width, crop_height = max(int(size[0] * scale), 1), max(int(size[1] * scale), 1)
        left, top = generator.integers(width - crop_width + 1), generator.integers(height - crop_height + 1)
        crop = image[top : top + crop_height, left : left + crop_width][:, :: generator.choice([-1, 1])]
        rgb = _resized(crop, size)
        scene = np.dstack([rgb, simulate_thermal_scene(rgb, generator)])
        for _ in range(generator.integers(*NUM_CLUTTER)):
            self._add_clutter(generator, scene)
        return Pair(np.ascontiguousarray(scene[..., :3]), np.ascontiguousarray(scene[..., 3]))

    def _add_clutter(self, generator: np.random.Generator, scene: NDArray[np.uint8]) -> None:
        """Draw a random cut-out on a scene ``(H, W, 4)``, in place."""
        height, width = scene.shape[:2]
        side = min(height, width) * np.exp(generator.uniform(*np.log(CLUTTER_SIDE)))
        root = np.exp(generator.uniform(-0.35, 0.35))
        w, h = min(max(int(side * root), 4), width), min(max(int(side / root), 4), height)
        left, top = int(generator.integers(width - w + 1)), int(generator.integers(height - h + 1))
        clutter = self.foreground(generator, (w, h))
        under = scene[top : top + h, left : left + w]
        over = np.dstack(clutter.pair)
        opacity = clutter.mask[..., None].astype(np.float32) / 255
        under[:] = np.rint(under + (over.astype(np.float32) - under) * opacity).astype(np.uint8)

    def foreground(self, generator: np.random.Generator, size: tuple[int, int]) -> Foreground:
        """Return a cut-out that fills ``size`` (width, height) in pixels; of several, one with a similar shape."""
        numbers = generator.integers(len(self.cutouts), size=NUM_SHAPE_CANDIDATES)
        drawn = [_cutout(self.cutouts[number]) for number in numbers]
        aspect = size[0] / size[1]
        picture = min(drawn, key=lambda each: abs(np.log(each.shape[1] / each.shape[0] / aspect)))
        picture = picture[:, :: generator.choice([-1, 1])]
        # Colors behind transparent pixels have no meaning, so they must not mix into the object's edge.
        alpha = picture[..., 3:].astype(np.float32) / 255
        premultiplied, coverage = _resized(picture[..., :3] * alpha, size), _resized(alpha, size)
        rgb = np.clip(np.rint(premultiplied / np.maximum(coverage, 1 / 255)[..., None]), 0, 255).astype(np.uint8)
        mask = np.rint(coverage * 255).astype(np.uint8)
        return Foreground(Pair(rgb, simulate_thermal_object(rgb, mask, generator)), mask)


@lru_cache(maxsize=NUM_CACHED)
def _photograph(path: Path) -> Image:
    return read_image(path)


def read_cutout(path: Path) -> NDArray[np.uint8]:
    """Return a cut-out ``(H, W, 4)``, RGB and alpha, without its transparent border.

    Raises:
        DataError: the file is no image of 8 bits with an alpha channel, or shows no object.
    """
    pixels = read_pixels(path, alpha=True)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 4:
        raise DataError(f"{path}: expected an image of 8 bits with an alpha channel, got shape {pixels.shape}")
    covered = pixels[..., 3] >= 128
    rows, columns = np.flatnonzero(covered.any(axis=1)), np.flatnonzero(covered.any(axis=0))
    if not len(rows):
        raise DataError(f"{path}: expected an object, every pixel is transparent")
    inside = pixels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(inside), cv2.COLOR_BGRA2RGBA), np.uint8)


@lru_cache(maxsize=NUM_CACHED)
def _cutout(path: Path) -> NDArray[np.uint8]:
    return read_cutout(path)


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    method = cv2.INTER_AREA if image.shape[1] > size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(np.ascontiguousarray(image), size, interpolation=method))
