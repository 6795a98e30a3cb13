"""From images to the tensors the networks take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mmdistill.reference.data.sequence import Image

# ImageNet's, on the scale 0 to 1; the public trunks were trained with them, and TIR passes the same trunks.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


_SCALE = (1 / (255 * np.array(DEVIATION))).astype(np.float32)
_OFFSET = (np.array(MEAN) / np.array(DEVIATION)).astype(np.float32)


def to_tensor(images: Sequence[Image]) -> Tensor:
    """Return images ``(H, W, 3)`` of one size as a normalised float32 ``(B, 3, H, W)``, channels last in memory."""
    pixels = np.stack(images)
    count, height, width, _ = pixels.shape
    # In NumPy: waking torch's threads costs more than this little work.
    # By whole rows: with an inner axis of three channels it takes ten times as long.
    rows = pixels.reshape(count, height, -1) * np.tile(_SCALE, width)
    rows -= np.tile(_OFFSET, width)
    return torch.from_numpy(rows.reshape(pixels.shape)).permute(0, 3, 1, 2)


def to_pixels(images: Sequence[Image]) -> Tensor:
    """Return images ``(H, W, 3)`` of one size as uint8 ``(B, 3, H, W)``, channels last in memory."""
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)


def normalise(pixels: Tensor) -> Tensor:
    """Return what ``to_tensor`` makes of images, to the bit, where they are; ``(..., 3, H, W)`` from ``to_pixels``."""
    rows = pixels.movedim(-3, -1).flatten(-2)
    width = pixels.shape[-1]
    scale, offset = (torch.from_numpy(np.tile(values, width)).to(pixels.device) for values in (_SCALE, _OFFSET))
    # Two operations, each rounded: one alone, where there is one, gives other bits.
    return (rows * scale).sub_(offset).reshape(*rows.shape[:-1], width, 3).movedim(-1, -3)
