"""The networks inside the package, by name."""

from __future__ import annotations

from pathlib import Path

from mmdistill.toolkit.data_issues import DataError

FOLDER = Path(__file__).parent / "networks"

SUFFIX = ".safetensors"


def bundled_networks() -> dict[str, Path]:
    """Return the weights files inside the package by name."""
    return {path.stem: path for path in sorted(FOLDER.glob(f"*{SUFFIX}"))}


def find_weights(name_or_file: str | Path) -> Path:
    """Return the file of a bundled network's name; any other path as it is.

    A file or folder of the same name comes first.

    Raises:
        DataError: a plain name is no file and no bundled network.
    """
    path, networks = Path(name_or_file), bundled_networks()
    if path.exists() or path.name != str(name_or_file) or path.suffix or not networks:
        return path
    if path.name in networks:
        return networks[path.name]
    raise DataError(f"{path}: there is no such file, and no bundled network of this name ({', '.join(networks)})")
