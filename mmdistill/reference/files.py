"""Writing files whole: a reader sees the old content or the new, never a half."""

from __future__ import annotations

import glob
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdistill.reference.errors import DataError


def temporary_beside(path: str | Path) -> Path:
    """Return an unused hidden name in the folder of ``path``, which is made if missing.

    The name keeps the suffix, because image and video writers choose their format by it.

    Raises:
        DataError: a file is where that folder should be.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path}: cannot be written, because {error.filename} is a file and no folder") from error
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that is moved onto it when the block ends without an error.

    After an error the temporary file is removed and ``path`` is as it was.

    Args:
        path: the file to write; one that exists is replaced, missing folders are made.

    Yields:
        The path to write to, of the same folder and suffix.

    Raises:
        DataError: a folder is where the file should be, or a file where its folder should be.
    """
    if Path(path).is_dir():
        raise DataError(f"{path}: expected the name of a file to write, there is a folder")
    temporary = temporary_beside(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove what writers of ``path`` left beside it when they were killed; nobody may be writing it now."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * 8}{glob.escape(path.suffix)}"):
        left.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; line endings stay as given."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))
