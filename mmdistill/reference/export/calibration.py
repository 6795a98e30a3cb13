"""The crops that int8 learns its ranges from: like those that a tracker will see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.data.crops import crop_geometry, cut
from mmdistill.reference.data.frames import Frames, open_frames
from mmdistill.reference.data.modalities import modality_folders
from mmdistill.reference.data.sampling import Sampler
from mmdistill.reference.data.sequence import Image, complete
from mmdistill.reference.data.synthetic import synthetic_sequences
from mmdistill.reference.data.tensors import to_tensor
from mmdistill.reference.errors import DataError
from mmdistill.reference.networks.settings import NetworkSettings

SIDES = (0.25, 1.0)
"""The range of a crop's side, relative to the shorter side of its image."""


def calibration_crops(
    folder: str | Path | None, settings: NetworkSettings, count: int, *, seed: int = 0
) -> list[Pair[Tensor]]:
    """Return normalised crops, ``count`` pairs of ``(1, 3, crop_size, crop_size)``.

    Args:
        folder: of images, or of aligned pairs in two folders ``rgb`` and ``tir``; crops are cut anywhere in images
            spread evenly over it. None: search areas of synthetic video.
        settings: the network's.
        count: how many crops.
        seed: of where they are cut.

    Raises:
        DataError: no crop is asked for, or the folder is missing, holds no image, or one that can't be read.
    """
    if count < 1:
        raise DataError(f"calibration: expected at least one crop, got {count}")
    if folder is None:
        crops = _synthetic_crops(settings, count, seed)
    else:
        crops = _crops_of(_frames(Path(folder), settings), settings.crop_size, count, seed)
    return [Pair(*(to_tensor([image]).contiguous() for image in crop)) for crop in crops]


def _synthetic_crops(settings: NetworkSettings, count: int, seed: int) -> list[Pair[Image]]:
    sampler = Sampler(synthetic_sequences(count, seed=seed), settings.crop_size, settings.search_area, seed=seed)
    samples = (sampler.sample(number).test.images for number in range(count))
    return [Pair(images.rgb[0], images.tir[0]) for images in samples]


def _frames(folder: Path, settings: NetworkSettings) -> Frames:
    sides = modality_folders(folder) if folder.is_dir() else None
    if sides is not None:
        return open_frames(*sides)
    return open_frames(tir=folder) if settings.modality == "tir" else open_frames(rgb=folder)


def _crops_of(frames: Frames, size: int, count: int, seed: int) -> list[Pair[Image]]:
    generator = np.random.default_rng(seed)
    crops = []
    for index in np.linspace(0, len(frames) - 1, count).round().astype(int):
        images = complete(frames.frame(int(index)), where=f"calibration frame {index + 1}")
        extent = np.array(images.rgb.shape[1::-1])
        side = float(generator.uniform(*SIDES) * extent.min())
        geometry = crop_geometry(side / 2 + generator.random(2) * (extent - side), side, size)
        crops.append(Pair(*(cut(image, geometry) for image in images)))
    return crops
