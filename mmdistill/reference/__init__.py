"""The reference system: RGB-T and TIR trackers of the DiMP family that use the library. Needs the ``tracker`` extra.

- ``models``: the networks, their settings and weights files.
- ``importing``: public checkpoints and ImageNet trunks.
- ``tracking``: trackers, one or many videos at a time.
- ``training``: training of teacher, student and single-modality trackers; TIR-CMD in ``training.tir_cmd``.
- ``synthetic``: synthetic RGB-T video.
- ``export``: ONNX files in float32, float16 and int8.
- ``demo``: the whole pipeline on synthetic video, small.
- ``crops``, ``device``, ``settings_json``: crops as tensors, device selection, settings as JSON.

It imports the library and the toolkit; neither imports it.

The names below are imported at first use, so ``import mmdistill.reference`` loads no PyTorch.
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
