"""Results in the form that each benchmark's own toolkit reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import write_text


@dataclass(frozen=True)
class ResultFormat:
    """How a toolkit wants a sequence's boxes; a folder ``<tracker>`` holds them.

    Attributes:
        name: the file's, of ``{tracker}`` and ``{sequence}``.
        columns: ``x y w h``, or the four corners clockwise from the upper left: x y, x + w y, x + w y + h, x y + h.
        separator: between the numbers.
    """

    name: str
    columns: Literal[4, 8]
    separator: str


_CORNERS = ResultFormat("{tracker}_{sequence}.txt", 8, " ")
_COMMAS = ResultFormat("{sequence}.txt", 4, ",")

FORMATS: Mapping[str, ResultFormat] = MappingProxyType(
    {
        "gtot": _CORNERS,
        "rgbt210": _CORNERS,
        "rgbt234": _CORNERS,
        "lasher": _COMMAS,
        "vtuav": ResultFormat("{sequence}.txt", 4, " "),
        "lsotb-tir": _COMMAS,
        "ptb-tir": _COMMAS,
        "vot": _COMMAS,
        "synthetic": _COMMAS,
    }
)
"""By benchmark. Those of GTOT, RGBT234 and LasHeR are as in published results; RGBT210 follows RGBT234. The others
follow their annotations and were not compared with their toolkits."""


def export_folder(folder: str | Path, tracker: str) -> Path:
    """Return the folder that a tracker's results are exported to.

    Raises:
        DataError: a name that no folder can have, or a file in the way.
    """
    if not tracker or "/" in tracker or "\\" in tracker or tracker[0] == ".":
        raise DataError(f"--tracker: expected a name that a folder can have, got {tracker!r}")
    place = Path(folder) / tracker
    for each in (Path(folder), place):
        if each.exists() and not each.is_dir():
            raise DataError(f"{each}: expected a folder to export to, it is a file")
    return place


def export_results(folder: str | Path, boxes: Mapping[str, ArrayLike], benchmark: str, tracker: str) -> Path:
    """Write results for a benchmark's own toolkit.

    Args:
        folder: gets a folder of the tracker's name.
        boxes: for each sequence's name its boxes ``(T, 4)``, ``x y w h`` in pixels.
        benchmark: whose toolkit.
        tracker: the tracker's name.

    Returns:
        The folder of the files.

    Raises:
        DataError: as ``export_folder``.
    """
    form = FORMATS[benchmark]
    place = export_folder(folder, tracker)
    for sequence, each in boxes.items():
        rows = np.asarray(each, dtype=np.float64)
        if form.columns == 8:
            x, y, w, h = rows.T
            rows = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)
        lines = (form.separator.join(repr(value) for value in row) + "\n" for row in rows.tolist())
        write_text(place / form.name.format(tracker=tracker, sequence=sequence), "".join(lines))
    return place
