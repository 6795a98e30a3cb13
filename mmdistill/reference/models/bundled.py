"""The networks inside the package, by name; their model cards are in docs/model_card.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mmdistill.toolkit.data_issues import DataError

FOLDER = Path(__file__).parent / "networks"

BUNDLED: Mapping[str, str] = {"student-rgbt": "student-rgbt.safetensors"}
"""File names by name: ``student-rgbt`` is CMD's compact student, for RGB-T video or either modality alone."""

DEFAULT = "student-rgbt"
"""The network that tracks where no other is given."""


def find_weights(name_or_file: str | Path) -> Path:
    """Return the file of a bundled network's name; any other path as it is.

    A file or folder of the same name comes first.

    Raises:
        DataError: a plain name is no file and no bundled network.
    """
    path = Path(name_or_file)
    if path.exists() or path.name != str(name_or_file) or path.suffix:
        return path
    if path.name in BUNDLED:
        return FOLDER / BUNDLED[path.name]
    raise DataError(f"{path}: there is no such file, and no bundled network of this name ({', '.join(BUNDLED)})")
