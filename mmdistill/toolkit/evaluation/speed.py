"""How fast a run was, by the times that it wrote beside its results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError, printable
from mmdistill.toolkit.io import read_json


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
        times = read_json(path, below=folder)
        seconds_each = times.get("seconds")
        if not isinstance(seconds_each, list) or not seconds_each or not all(map(_is_time, seconds_each)):
            raise DataError(f"{path}: 'seconds': expected the seconds of each frame, numbers of 0 or more")
        first, *rest = map(float, seconds_each)
        frames, seconds = frames + len(rest), seconds + sum(rest)
        first_frames, first_seconds = first_frames + 1, first_seconds + first
        if "how" in times:
            ways[printable(times["how"], MAX_MESSAGE)] = None
    return Speed(frames, seconds, first_frames, first_seconds, tuple(ways))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
