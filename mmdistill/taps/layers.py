"""Which layer a name means, through the wrappers of parallel and compiled models."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mmdistill._checks import shown
from mmdistill.taps.compiled import is_compiler

WRAPPERS = ("module", "_orig_mod")
"""What DataParallel and DistributedDataParallel, and torch.compile, call the model that they wrap."""


class TapError(LookupError):
    """A layer is not there, was not run, or what was recorded of it is not to be trusted."""


def find_layers(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Return each name's path in the model, the wrappers on the way included."""
    modules = dict(model.named_modules(remove_duplicate=False))
    wrappers = {path for path, module in modules.items() if _is_parallel(module) or is_compiler(module)}
    # Backwards, so that of a wrapper and what it wraps, which share a plain name, the wrapper has it.
    plain = {_without_wrappers(path, wrappers): path for path in reversed(modules)}
    paths = {}
    for name in names:
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        path = name if name in modules else plain.get(name, plain.get(bare))
        if path is None:
            raise TapError(f"FeatureTaps: names: no layer {shown(name)}; {_suggestion(name, list(plain)[::-1])}")
        # Code compiled around a compiled layer runs the original and none of the wrapper's hooks.
        while is_compiler(modules[path]):
            path = f"{path}._orig_mod" if path else "_orig_mod"
        paths[name] = path
    return paths


def _without_wrappers(path: str, wrappers: set[str]) -> str:
    parts = path.split(".")
    return ".".join(part for depth, part in enumerate(parts) if ".".join(parts[:depth]) not in wrappers)


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {listed(close)}?"
    more = f" and {len(known) - 8} more" if len(known) > 8 else ""
    return f"there are {listed(known[:8])}{more}"


def _is_parallel(module: nn.Module) -> bool:
    return isinstance(module, (nn.DataParallel, DistributedDataParallel))


def listed(names: Sequence[str]) -> str:
    """Return the names quoted, with commas."""
    return ", ".join(map(repr, names))
