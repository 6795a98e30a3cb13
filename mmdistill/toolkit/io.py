"""Reads and writes files safely: regular files only, atomic writes, and JSON of bounded size and depth."""

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
"""Size limit of a text file; boxes of millions of frames are smaller."""

_FILE_TYPES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


def check_regular_file(path: str | Path, *, below: str | Path | None = None) -> Path:
    """Return the path of a regular file, without opening it.

    Named pipes, sockets and devices are refused because reading them may never end.

    Args:
        path: the file; links are followed.
        below: a folder that must contain the file after links are resolved.

    Raises:
        DataError: the file is missing, is not a regular file, or lies outside the folder.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        inside = below is None or path.resolve().is_relative_to(Path(below).resolve())
    except (OSError, ValueError) as error:
        raise _read_error(path, error) from error
    _check_file_type(path, mode)
    if not inside:
        raise DataError(f"{path}: expected a file below {below}, it lies at {path.resolve()}")
    return path


def open_regular_file(path: str | Path, *, below: str | Path | None = None) -> BinaryIO:
    """Open a regular file for reading bytes; see ``check_regular_file``. The opened file is checked again."""
    path = check_regular_file(path, below=below)
    try:
        # Non-blocking, because a pipe may have replaced the file since the check.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise _read_error(path, error) from error
    file = os.fdopen(descriptor, "rb")
    try:
        _check_file_type(path, os.fstat(descriptor).st_mode)
    except DataError:
        file.close()
        raise
    return file


def read_bytes(path: str | Path, *, below: str | Path | None = None, limit: int | None = None) -> bytes:
    """Return the bytes of a regular file; see ``check_regular_file``.

    Args:
        path: the file.
        below: a folder that must contain the file.
        limit: size limit in bytes; no limit by default.

    Raises:
        DataError: as ``check_regular_file``; also if the file is larger than the limit or can't be read.
    """
    with open_regular_file(path, below=below) as file:
        try:
            content = file.read() if limit is None else file.read(limit + 1)
        except OSError as error:
            raise _read_error(path, error) from error
    if limit is not None and len(content) > limit:
        raise DataError(f"{path}: expected at most {limit:,} bytes, the file is larger")
    return content


def read_text(path: str | Path, *, below: str | Path | None = None) -> str:
    r"""Return the content of a text file, with every line ending as ``\n``.

    The encoding is UTF-8, with or without a byte order mark, or UTF-16 with one, as Windows' editors write it.

    Args:
        path: the file.
        below: a folder that must contain the file.

    Raises:
        DataError: the file is not a regular file, exceeds ``MAX_TEXT_BYTES``, or has another encoding.
    """
    content = read_bytes(path, below=below, limit=MAX_TEXT_BYTES)
    utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        encoding = "UTF-16 (its byte order mark)" if utf16 else "UTF-8"
        raise DataError(f"{path}: expected a text file in {encoding}, byte {error.start} is invalid") from error
    if "\0" in text:
        # UTF-16 without a byte order mark decodes as UTF-8 with null bytes between the letters.
        raise DataError(f"{path}: expected a text file in UTF-8, got null bytes; it may be UTF-16 or binary")
    return text.replace("\r\r\n", "\n").replace("\r\n", "\n").replace("\r", "\n")


def to_opencv_path(path: str | Path) -> str:
    """Return a path as a string that OpenCV can open; OpenCV crashes on bytes that are not UTF-8.

    Raises:
        DataError: the path is not valid UTF-8.
    """
    try:
        return Path(path).as_posix().encode("utf-8").decode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(f"{path}: expected a name in UTF-8, OpenCV opens no other; rename the file") from error


def _check_file_type(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise DataError(f"{path}: expected a regular file, found {_FILE_TYPES.get(stat.S_IFMT(mode), 'another type')}")


def _read_error(path: str | Path, error: OSError | ValueError) -> DataError:
    # A name with a null byte raises ValueError.
    return DataError(f"{path}: cannot read the file: {getattr(error, 'strerror', None) or error}")


def temporary_path(path: str | Path) -> Path:
    """Return an unused hidden name in the folder of ``path``; creates the folder if missing.

    The name keeps the suffix, because image and video writers choose their format by it.

    Raises:
        DataError: the folder's name belongs to a file, or ``path`` is a device, a pipe or a socket, which must
            not be replaced.
    """
    path = Path(path)
    if path.exists() and not path.is_dir():
        _check_file_type(path, path.stat().st_mode)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise DataError(f"{path}: cannot be written, {error.filename} is a file, not a folder") from error
    return path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path that replaces ``path`` when the block ends without an error.

    After an error the temporary file is removed and ``path`` stays unchanged.

    Args:
        path: the file to write. An existing file is replaced, missing folders are created.

    Yields:
        The path to write to, with the same folder and suffix.

    Raises:
        DataError: ``path`` is a folder, a device or the like, or its folder's name belongs to a file.
    """
    if Path(path).is_dir():
        raise DataError(f"{path}: expected the name of a file to write, got a folder")
    temporary = temporary_path(path)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(path: str | Path) -> None:
    """Remove temporary files of killed writers of ``path``. No process may be writing ``path`` at the same time."""
    path = Path(path)
    for leftover in path.parent.glob(f".{glob.escape(path.stem)}.{'[0-9a-f]' * 8}{glob.escape(path.suffix)}"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, atomically; line endings stay unchanged.

    Bytes of file names that are not UTF-8 become backslash escapes.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def read_json(path: str | Path, *, below: str | Path | None = None) -> dict[str, Any]:
    """Return the object in a JSON file.

    Args:
        path: the file.
        below: a folder that must contain the file.

    Raises:
        DataError: as ``read_text`` and ``parse_json``.
    """
    return parse_json(read_text(path, below=below), where=path)


def parse_json(text: str, *, where: object) -> dict[str, Any]:
    """Return the object in a JSON text.

    Args:
        text: the JSON.
        where: the file's name, for errors.

    Raises:
        DataError: the text is not JSON, is nested too deep, repeats a key, or is not an object.
    """
    try:
        content = json.loads(text, object_pairs_hook=_without_duplicates)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}, line {error.lineno}: not JSON: {error.msg}") from error
    except RecursionError:
        raise DataError(f"{where}: unsupported JSON: nested too deep") from None
    except ValueError as error:
        raise DataError(f"{where}: unsupported JSON: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a JSON object {{...}}, got a {type(content).__name__}")
    return content


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        duplicate = next(key for key in content if keys.count(key) > 1)
        raise ValueError(f"duplicate key {duplicate!r}")
    return content
