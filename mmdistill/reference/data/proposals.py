"""Box proposals around a target, for training the IoU-Net."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.reference.data.boxes import centres, from_centre, intersection_over_union
from mmdistill.reference.ranges import NON_EMPTY, Range, check_fields


@dataclass(frozen=True)
class ProposalSettings:
    """How proposals are drawn.

    Attributes:
        count: proposals per frame.
        deviations: one is drawn per proposal: Gaussian noise of it on centre and log size, relative to the box.
        minimum_iou: a proposal of less overlap is drawn again, a little closer.
    """

    count: Annotated[int, Range(1, 10_000)] = 8
    deviations: Annotated[tuple[Annotated[float, Range(0, 10)], ...], NON_EMPTY] = (0.01, 0.05, 0.1, 0.2, 0.3)
    minimum_iou: Annotated[float, Range(0, 0.9)] = 0.1

    def __post_init__(self) -> None:
        check_fields(self)


def propose(
    box: ArrayLike, settings: ProposalSettings, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return proposals ``(count, 4)``, ``x y w h``, and their IoU ``(count,)`` with the box ``(4,)``."""
    target = np.asarray(box, dtype=np.float64)
    deviation = generator.choice(settings.deviations, size=settings.count)
    proposals, overlap = np.empty((settings.count, 4)), np.zeros(settings.count)
    missing = np.ones(settings.count, dtype=bool)
    while missing.any():
        noise = deviation[missing, None] * generator.normal(size=(int(missing.sum()), 4))
        centre = centres(target) + noise[:, :2] * np.sqrt(target[2] * target[3])
        proposals[missing] = from_centre(centre, target[2:] * np.exp(noise[:, 2:]))
        overlap = intersection_over_union(proposals, target)
        missing = overlap < settings.minimum_iou
        deviation *= 0.9  # so that it ends, whatever the box
    return proposals, overlap
