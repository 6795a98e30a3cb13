"""How fast a run was, by the times that it wrote beside its results."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmdistill.reference.data.box_files import read_text
from mmdistill.reference.errors import DataError


@dataclass(frozen=True)
class Speed:
    """How fast sequences were tracked, as the field reports it: the tracker's own time, without reading images.

    Attributes:
        frames: how many were tracked, the first of each sequence aside.
        seconds: how long the tracker took for them.
        first_frames: how many sequences were started.
        first_seconds: how long that took.
        ways: how the sequences were tracked, in words; several where a run went on in another way.
    """

    frames: int
    seconds: float
    first_frames: int
    first_seconds: float
    ways: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Frames per second without the first ones."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def with_first_frames(self) -> float:
        """Frames per second over all frames, in which starting counts."""
        return (self.frames + self.first_frames) / max(self.seconds + self.first_seconds, 1e-9)

    @property
    def how(self) -> str:
        """How it was measured, in words."""
        return "; ".join(["the tracker alone, without reading images", " and ".join(self.ways)]).removesuffix("; ")

    def as_json(self) -> str:
        """Return it as JSON, with how it was measured."""
        content = {
            "frames_per_second": round(self.frames_per_second, 2),
            "with_first_frames": round(self.with_first_frames, 2),
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "first_frames": self.first_frames,
            "first_seconds": round(self.first_seconds, 3),
            "how": self.how,
        }
        return json.dumps(content, indent=2) + "\n"


def read_speed(folder: str | Path, names: Iterable[str]) -> Speed | None:
    """Return the speed of a run of sequences, by the ``<name>.json`` in its folder of results.

    Returns:
        None where a sequence's times are not there, as in results that came from elsewhere.

    Raises:
        DataError: a file of times is malformed.
    """
    frames, seconds, first_frames, first_seconds = 0, 0.0, 0, 0.0
    ways: dict[str, None] = {}
    for name in names:
        path = Path(folder) / f"{name}.json"
        if not path.exists():
            return None
        try:
            times = json.loads(read_text(path))
            first, *rest = map(float, times["seconds"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected the seconds of each frame in JSON") from error
        frames, seconds = frames + len(rest), seconds + sum(rest)
        first_frames, first_seconds = first_frames + 1, first_seconds + first
        if "how" in times:
            ways[str(times["how"])] = None
    return Speed(frames, seconds, first_frames, first_seconds, tuple(ways))
