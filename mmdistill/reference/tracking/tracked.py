"""What a tracker made of a whole sequence."""

from __future__ import annotations

from dataclasses import dataclass

from mmdistill.reference.data.boxes import Array
from mmdistill.reference.data.sequence import Boxes


@dataclass(frozen=True)
class TrackedSequence:
    """What a tracker made of a sequence of ``T`` frames.

    Attributes:
        boxes: ``(T, 4)`` as ``x y w h``, pixels; the first is the given one.
        scores: ``(T,)``, the tracker's own confidence; 1 for the first frame.
        seconds: ``(T,)``, how long the tracker took per frame, without reading it.
    """

    boxes: Boxes
    scores: Array
    seconds: Array

    @property
    def frames_per_second(self) -> float:
        """Frames tracked per second, without reading them and without the first."""
        return float((len(self.seconds) - 1) / max(self.seconds[1:].sum(), 1e-9))
