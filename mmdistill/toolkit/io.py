"""Files: written whole, so that a reader sees the old content or the new; read only where they are regular files.

JSON that somebody else may have written: one object, of bounded size and depth, or one line that names the file.
"""

from __future__ import annotations

import codecs
import glob
import json
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mmdistill.toolkit.data_issues import DataError

MAX_TEXT_BYTES = 2**28
"""Of a text file that is read: boxes of millions of frames are smaller."""

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def check_regular(path: str | Path, *, below: str | Path | None = None) -> Path:
    """Return the path of a regular file, without opening it; named pipes, sockets and devices may never end.

    Args:
        path: the file; links are followed.
        below: a folder; the file that is meant, links followed, must lie below it.

    Raises:
        DataError: no such file, something else than a regular file, or a file that lies elsewhere.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        inside = below is None or path.resolve().is_relative_to(Path(below).resolve())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    _check_kind(path, mode)
    if not inside:
        raise DataError(f"{path}: expected a file below {below}, it lies at {path.resolve()}")
    return path


def open_regular(path: str | Path, *, below: str | Path | None = None) -> BinaryIO:
    """Open a regular file for reading bytes; see ``check_regular``. What is opened is what was checked."""
    path = check_regular(path, below=below)
    try:
        # Without blocking: a pipe that was put there since must not be waited for.
        number = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _unreadable(path, error) from error
    file = os.fdopen(number, "rb")
    try:
        _check_kind(path, os.fstat(number).st_mode)
    except DataError:
        file.close()
        raise
    return file


def read_regular(path: str | Path, *, below: str | Path | None = None, limit: int | None = None) -> bytes:
    """Return a regular file's bytes; see ``check_regular``.

    Args:
        path: the file.
        below: a folder that it must lie below.
        limit: the most bytes that it may have; any number if not given.

    Raises:
        DataError: as ``check_regular``, or a file that is larger or can't be read.
    """
    with open_regular(path, below=below) as file:
        try:
            content = file.read() if limit is None else file.read(limit + 1)
        except OSError as error:
            raise _unreadable(path, error) from error
    if limit is not None and len(content) > limit:
        raise DataError(f"{path}: expected at most {limit:,} bytes, the file is larger")
    return content


def read_text(path: str | Path, *, below: str | Path | None = None) -> str:
    """Return a text file's content with any line ends, also ones converted twice.

    It is UTF-8, with or without a byte order mark, or UTF-16 with one, as Windows' editors and shells write it.

    Args:
        path: the file.
        below: a folder that it must lie below.

    Raises:
        DataError: no regular file, one of more than ``MAX_TEXT_BYTES``, or one that is no such text.
    """
    content = read_regular(path, below=below, limit=MAX_TEXT_BYTES)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        kind = "UTF-16, as its first bytes say" if utf16 else "UTF-8"
        raise DataError(f"{path}: expected a text file, byte {error.start} is no {kind}") from error
    if "\0" in text:
        # UTF-16 without a byte order mark decodes as UTF-8 with a null between the letters.
        raise DataError(f"{path}: expected a text file in UTF-8, found null bytes; is it UTF-16, or no text at all?")
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def opencv_name(path: str | Path) -> str:
    """Return a path as OpenCV takes it, which ends the whole process at bytes that are no UTF-8.

    Raises:
        DataError: a path with such bytes.
    """
    try:
        return Path(path).as_posix().encode("utf-8").decode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: expected a name in UTF-8, for OpenCV opens no other; rename it") from error


def _check_kind(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: expected a regular file, found {_KINDS.get(stat.S_IFMT(mode), 'something else')}")


def _unreadable(path: str | Path, error: OSError | ValueError) -> DataError:
    # ValueError: a name with a null byte.
    return DataError(f"{path}: cannot read the file: {getattr(error, 'strerror', None) or error}")


def temporary_beside(path: str | Path) -> Path:
    """Return an unused hidden name in the folder of ``path``, which is made if missing.

    The name keeps the suffix, because image and video writers choose their format by it.

    Raises:
        DataError: a file is where that folder should be, or ``path`` is a device, a pipe or the like, which the file
            would take the place of.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        _check_kind(path, path.stat().st_mode)
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
        DataError: a folder, a device or the like is where the file should be, or a file where its folder should be.
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
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all; line endings stay as given.

    What is no UTF-8, as bytes of some file names are, is written as backslash escapes.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_json(path: str | Path, *, below: str | Path | None = None) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Args:
        path: the file.
        below: a folder that it must lie below.

    Raises:
        DataError: as ``read_text``, or as ``parse_json``.
    """
    return parse_json(read_text(path, below=below), where=path)


def parse_json(text: str, *, where: object) -> dict[str, Any]:
    """Return the object that a JSON text holds.

    Args:
        text: the JSON.
        where: the file it is from, named in errors.

    Raises:
        DataError: no JSON, nested too deep, a name that is there twice in one object, or something else than an object.
    """
    try:
        content = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}, line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{where}: not JSON that is read here: nested too deep") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON that is read here: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a JSON object {{...}}, got a {type(content).__name__}")
    return content


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in content if names.count(name) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return content
