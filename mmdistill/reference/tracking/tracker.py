"""The reference tracker on one video at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.batch_tracker import BatchTracker, Step
from mmdistill.reference.tracking.localization import Flag
from mmdistill.reference.tracking.settings import TrackingSettings
from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.sequence import FramePair


class ReferenceTracker:
    """Follows one target through one video at a time: a ``BatchTracker`` of one slot, which see.

    Args:
        network: teacher, student, DiMP or ATOM.
        settings: the constants of tracking; the published ones of its kind if not given.
        seed: of all that is random.
    """

    _step: Step | None

    def __init__(self, network: TrackerNetwork, settings: TrackingSettings | None = None, *, seed: int = 0) -> None:
        self._batch = BatchTracker(network, settings, seed=seed)
        self._started, self._step = False, None

    def init(self, frame: FramePair, box: ArrayLike) -> None:
        """Start a video; any earlier one is forgotten.

        Args:
            frame: its first frame, images ``(H, W, 3)``, uint8; None where a modality is missing.
            box: the target ``(4,)``, ``x y w h`` in pixels.

        Raises:
            DataError: no image, images of different sizes, or a box that nobody could start from.
        """
        self._started, self._step = False, None
        self._batch.start(0, frame, box, where="init")
        self._started = True

    def update(self, frame: FramePair) -> tuple[Array, float]:
        """Find the target in the next frame.

        Args:
            frame: as in ``init``.

        Returns:
            The box ``(4,)`` as ``x y w h``, pixels, and the score where it was found. Where it was not found, the last
            box and the largest score.

        Raises:
            DataError: no image, or images of different sizes.
            RuntimeError: ``init`` was not called.
        """
        if not self._started:
            raise RuntimeError("ReferenceTracker.update: call init with the first frame before")
        self._step = self._batch.step([0], [frame], where=["update"])
        return self._step.boxes[0], float(self._step.scores[0])

    @property
    def flag(self) -> Flag:
        """What was made of the last frame's scores; ``"normal"`` after ``init``."""
        return "normal" if self._step is None else self._step.flags[0]

    @property
    def score_map(self) -> NDArray[np.floating[Any]]:
        """The last frame's scores ``(H', W')``; zeros after ``init``."""
        if self._step is None:
            side = self._batch.network.settings.score_size
            return np.zeros((side, side), dtype=np.float32)
        scores: NDArray[np.floating[Any]] = self._step.score_maps[0].float().cpu().numpy()
        return scores

    @property
    def search_area(self) -> Array | None:
        """What part of the last frame they are of, ``(4,)`` as ``x y w h``, image pixels; None after ``init``."""
        return None if self._step is None else self._step.search_areas[0]
