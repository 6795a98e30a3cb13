"""Live frames of both modalities, read side by side."""

from __future__ import annotations

from collections.abc import Iterator

from mmdistill.pair import Pair
from mmdistill.reference.data.frames.camera import Camera
from mmdistill.reference.data.frames.one_size import FixedSize, OneSize
from mmdistill.reference.data.frames.reading import InputWarnings, Look, OnBroken, Reading, combine, look


class LiveFrames:
    """The newest frames of one or two cameras, without end.

    Two cameras run freely: what they show together differs by no more than the time between two frames of one.

    Args:
        rgb: the RGB camera, or None.
        tir: the TIR camera, or None; frames of another size than RGB's are resized to it, which is logged once.
        on_broken: what a camera that gives no more frames does: raise its DataError, or leave the other one to go on;
            the frames end when none is left.
    """

    length = None
    incomplete = ""

    def __init__(self, rgb: Camera | None, tir: Camera | None, *, on_broken: OnBroken = "stop") -> None:
        self._cameras = Pair(rgb, tir)
        self._on_broken = on_broken
        self._size = (0, 0)
        name = "" if tir is None else tir.name
        self.warnings = InputWarnings()
        reference = rgb if rgb is not None else tir
        self._fixed = None if reference is None else FixedSize(reference.name)
        self._one_size = OneSize(name, None if rgb is None else lambda: self._size, self.warnings)

    def __iter__(self) -> Iterator[Reading]:
        number = 0
        looks = self._looks("stop")  # a camera must give at least one frame
        while any(each.image is not None for each in looks):
            if looks.rgb.image is not None:
                self._size = looks.rgb.image.shape[1::-1]
            number += 1
            if self._fixed is not None:
                self._fixed(looks.rgb.image if self._cameras.rgb is not None else looks.tir.image, number)
            yield combine(looks, self._one_size)
            looks = self._looks(self._on_broken)

    def close(self) -> None:
        """Let go of the cameras."""
        for camera in self._cameras:
            if camera is not None:
                camera.close()

    def _looks(self, on_broken: OnBroken) -> Pair[Look]:
        return Pair(*(look(None if camera is None else camera.frame, on_broken) for camera in self._cameras))
