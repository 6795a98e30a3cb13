"""Attributes in JSON, a flag per frame each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.json_files import read_json


def read_attributes(path: str | Path, length: int) -> dict[str, NDArray[np.bool_]]:
    """Read ``{name: [0 or 1 per frame]}`` for a sequence of ``length`` frames.

    Raises:
        DataError: the file is not that.
    """
    path = Path(path)
    content = read_json(path)
    for name, flags in content.items():
        if not isinstance(flags, list) or len(flags) != length or any(flag not in (0, 1) for flag in flags):
            raise DataError(f"{path}: expected {length} flags 0 or 1 for {name!r}, one a frame")
    return {name: np.array(flags, dtype=bool) for name, flags in content.items()}


def write_attributes(path: str | Path, attributes: dict[str, NDArray[np.bool_]]) -> None:
    """Write attributes, a flag per frame each, as ``read_attributes`` reads them."""
    write_text(path, json.dumps({name: flags.astype(int).tolist() for name, flags in attributes.items()}))
