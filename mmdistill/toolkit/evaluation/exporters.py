"""Writes results in the file formats of the benchmarks' own toolkits."""

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
    """A toolkit's file format for the boxes of a sequence.

    Attributes:
        name: file name, with ``{tracker}`` and ``{sequence}``.
        columns: 4 for ``x y w h``; 8 for the corners, clockwise from the upper left.
        separator: text between numbers.
    """

    name: str
    columns: Literal[4, 8]
    separator: str


_CORNERS = ResultFormat("{tracker}_{sequence}.txt", 8, " ")
_COMMA_SEPARATED = ResultFormat("{sequence}.txt", 4, ",")

RESULT_FORMATS: Mapping[str, ResultFormat] = MappingProxyType(
    {
        "gtot": _CORNERS,
        "rgbt210": _CORNERS,
        "rgbt234": _CORNERS,
        "lasher": _COMMA_SEPARATED,
        "vtuav": ResultFormat("{sequence}.txt", 4, " "),
        "lsotb-tir": _COMMA_SEPARATED,
        "ptb-tir": _COMMA_SEPARATED,
        "vot": _COMMA_SEPARATED,
        "synthetic": _COMMA_SEPARATED,
    }
)
"""Result formats by benchmark. GTOT's, RGBT234's and LasHeR's are those of published results; RGBT210 follows RGBT234.
The others follow the benchmarks' annotations and were not compared with their toolkits."""


def export_folder(folder: str | Path, tracker: str) -> Path:
    """Return the folder that a tracker's results are exported to.

    Raises:
        DataError: the name is no valid folder name, or a file has the folder's path.
    """
    if not tracker or "/" in tracker or "\\" in tracker or tracker[0] == ".":
        raise DataError(f"--tracker: expected a valid folder name, got {tracker!r}")
    path = Path(folder) / tracker
    for each in (Path(folder), path):
        if each.exists() and not each.is_dir():
            raise DataError(f"{each}: expected a folder to export to, got a file")
    return path


def export_results(folder: str | Path, boxes: Mapping[str, ArrayLike], benchmark: str, tracker: str) -> Path:
    """Write results for a benchmark's own toolkit.

    Args:
        folder: the files are written to its subfolder ``tracker``.
        boxes: boxes ``(T, 4)``, ``x y w h`` in pixels, by sequence name.
        benchmark: name of the benchmark.
        tracker: name of the tracker.

    Returns:
        The subfolder.

    Raises:
        DataError: as in ``export_folder``.
    """
    result_format = RESULT_FORMATS[benchmark]
    path = export_folder(folder, tracker)
    for sequence, each in boxes.items():
        rows = np.asarray(each, dtype=np.float64)
        if result_format.columns == 8:
            x, y, w, h = rows.T
            rows = np.stack([x, y, x + w, y, x + w, y + h, x, y + h], axis=1)
        lines = (result_format.separator.join(repr(value) for value in row) + "\n" for row in rows.tolist())
        write_text(path / result_format.name.format(tracker=tracker, sequence=sequence), "".join(lines))
    return path
