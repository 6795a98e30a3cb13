"""What the frames of one modality are, wherever they are recorded."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.sequence import Image


class Source(Protocol):
    """The recorded frames of one modality."""

    @property
    def rate(self) -> float | None:
        """Frames per second, as the recording states; None where it does not."""
        ...

    @property
    def rate_tolerance(self) -> float:
        """The relative error that this rate may have."""
        ...

    @property
    def named_by_time(self) -> bool:
        """Whether the files are named by times."""
        ...

    @property
    def shortfall(self) -> str:
        """What a recording lacks that ends earlier than it states; empty if it is whole."""
        ...

    @property
    def available(self) -> int:
        """How many frames there are before such an end; else all."""
        ...

    def times(self) -> NDArray[np.float64] | None:
        """Return when each frame was taken ``(T,)``, seconds, ascending; None if unknown."""
        ...

    def __len__(self) -> int:
        """Return the number of frames, as stated."""
        ...

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB, or None if there is none; DataError if it is broken."""
        ...
