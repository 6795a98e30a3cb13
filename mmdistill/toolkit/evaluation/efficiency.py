"""A tracker's speed and its network's cost, and the JSON files that hold them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError, printable
from mmdistill.toolkit.io import read_json, write_text

COST_FILE = "cost.json"
"""Name of the file of a network's cost in the folder of a scored tracker."""

_MAX_COUNT = 10**18


@dataclass(frozen=True)
class Speed:
    """A tracker's own time, without reading images.

    Attributes:
        frames: number of tracked frames, without the first frame of each sequence.
        seconds: time for ``frames``.
        first_frames: number of first frames.
        first_seconds: time for ``first_frames``.
        methods: how the sequences were tracked, in words; several if a run was continued in another way.
    """

    frames: int
    seconds: float
    first_frames: int
    first_seconds: float
    methods: tuple[str, ...] = ()

    @property
    def frames_per_second(self) -> float:
        """Frames per second, without first frames."""
        return self.frames / max(self.seconds, 1e-9)

    @property
    def with_first_frames(self) -> float:
        """Frames per second, first frames included."""
        return (self.frames + self.first_frames) / max(self.seconds + self.first_seconds, 1e-9)

    @property
    def how(self) -> str:
        """How the speed was measured, in words."""
        return "; ".join(["the tracker alone, without reading images", *filter(None, [" and ".join(self.methods)])])

    def to_json(self) -> str:
        """Return both speeds, the counts and times behind them, and how they were measured, as JSON."""
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
    """Return the speed of a run from the ``<name>.json`` files beside its results.

    Args:
        folder: the run's results.
        names: names of the sequences.

    Returns:
        None if the times of a sequence are missing, as in results of other software.

    Raises:
        DataError: a file is malformed.
    """
    frames, seconds, first_frames, first_seconds = 0, 0.0, 0, 0.0
    methods: dict[str, None] = {}
    for name in names:
        path = Path(folder) / f"{name}.json"
        if not path.exists():
            return None
        content = read_json(path, below=folder)
        times = content.get("seconds")
        if not isinstance(times, list) or not times or not all(map(_is_time, times)):
            raise DataError(f"{path}: 'seconds': expected the seconds of each frame, numbers of 0 or more")
        first, *others = map(float, times)
        frames, seconds = frames + len(others), seconds + sum(others)
        first_frames, first_seconds = first_frames + 1, first_seconds + first
        if "how" in content:
            methods[printable(content["how"], MAX_MESSAGE)] = None
    return Speed(frames, seconds, first_frames, first_seconds, tuple(methods))


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


@dataclass(frozen=True)
class Cost:
    """A network's size and computation.

    Attributes:
        parameters: number of trained parameters.
        multiply_adds: multiply-adds of convolutions and matrix products for one frame: trunks, fusion, classification
            features, score map and IoU features. Box refinement and online learning depend on the frame and are left
            out.
        what: the network in a few words.
    """

    parameters: int
    multiply_adds: int
    what: str


def save_cost(path: str | Path, cost: Cost) -> None:
    """Write a network's cost, so that a report needs no weights."""
    write_text(path, json.dumps(asdict(cost), indent=2) + "\n")


def read_saved_cost(folder: str | Path) -> Cost | None:
    """Return the cost saved in a folder, or None if there is none.

    Raises:
        DataError: the file is a link to elsewhere or no regular file, or a field is missing or invalid.
    """
    path = Path(folder) / COST_FILE
    if not path.exists():
        return None
    content = read_json(path, below=folder)
    for name in ("parameters", "multiply_adds"):
        if type(content.get(name)) is not int or not 0 <= content[name] <= _MAX_COUNT:
            raise DataError(f"{path}: {name!r}: expected a count, got {str(content.get(name, 'nothing'))[:40]!r}")
    if not isinstance(content.get("what"), str) or len(content["what"]) > MAX_MESSAGE:
        raise DataError(f"{path}: 'what': expected the network in at most {MAX_MESSAGE} characters")
    return Cost(content["parameters"], content["multiply_adds"], content["what"])
