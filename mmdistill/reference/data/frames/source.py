"""What the frames of one modality are, wherever they are recorded."""

from __future__ import annotations

from typing import Protocol

from mmdistill.reference.data.sequence import Image


class Source(Protocol):
    """The recorded frames of one modality."""

    def __len__(self) -> int:
        """Return the number of frames."""
        ...

    def frame(self, index: int) -> Image | None:
        """Return frame ``index`` (from 0) as ``(H, W, 3)`` RGB, or None if there is none; DataError if it is broken."""
        ...
