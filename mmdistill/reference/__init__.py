"""The reference system: DiMP-based RGB-T and TIR trackers that use the library and the toolkit.

Needs the ``tracker`` extra. The names are imported at first use; ``import mmdistill.reference`` loads no PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmdistill.reference.tracking.tracker import Tracker
    from mmdistill.toolkit.tracking_loop import Result

__all__ = ["Result", "Tracker"]

# The same names as above, for the import at first use; a test compares the two.
_MODULE_OF = {"Result": "mmdistill.toolkit.tracking_loop", "Tracker": "mmdistill.reference.tracking.tracker"}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmdistill.reference' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULE_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
