"""The packages that only the export needs, asked for where they are used."""

from __future__ import annotations

import importlib
from types import ModuleType

from mmdistill.reference.errors import DataError


def import_extra(name: str) -> ModuleType:
    """Return a module of the ``export`` extra.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"export: {error.name} is not installed; pip install 'mmdistill[export]' brings what exporting needs"
        ) from error
