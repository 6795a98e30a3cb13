"""JSON that somebody else may have written: one object, of bounded size and depth, or one line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import read_text


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
