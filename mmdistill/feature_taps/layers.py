"""Layers by name, through the wrappers of parallel and compiled models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from mmdistill._checks.arguments import short_repr

WRAPPED_NAMES = ("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""Names under which DataParallel, torch.compile and other wrappers hold the wrapped module."""


class TapError(LookupError):
    """A layer does not exist or did not run, or its recorded feature is not valid."""


def resolve(model: nn.Module, paths: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return the layers by name, from their last known paths."""
    try:
        layers = {name: model.get_submodule(path) for name, path in paths.items()}
        if any(isinstance(layer, torch.jit.ScriptModule) for layer in layers.values()):
            raise AttributeError
    except AttributeError:  # a layer moved, or is refused
        layers = {name: model.get_submodule(path) for name, path in find_layers(model, list(paths)).items()}
    return {name: _without_compiler(layer) for name, layer in layers.items()}


def find_layers(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Return each name's path in the model, including the wrappers' names."""
    modules = dict(model.named_modules(remove_duplicate=False))
    wrappers = {path for path, module in modules.items() if _is_wrapper(module)}
    # Backwards, so that the wrapper wins the plain name that it shares with the wrapped module.
    plain = {_without_wrappers(path, wrappers): path for path in reversed(modules)}
    paths = {}
    for name in names:
        bare = ".".join(part for part in name.split(".") if part not in WRAPPED_NAMES)
        path = name if name in modules else plain.get(name, plain.get(bare))
        if path is None:
            raise TapError(f"FeatureTaps: names: no layer {short_repr(name)}; {_suggestion(name, list(plain)[::-1])}")
        if isinstance(modules[path], torch.jit.ScriptModule):
            raise TapError(
                f"FeatureTaps: names: {name!r} is TorchScript, which runs no hooks; tap the model before it is scripted"
            )
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


def _without_compiler(module: nn.Module) -> nn.Module:
    """Return the original of a compiled layer: compiled models run it, and not the wrapper's hooks."""
    while _is_compiler(module):
        module = module.get_submodule("_orig_mod")
    return module


def _is_compiler(module: nn.Module) -> bool:
    """Return whether the module is the result of ``torch.compile(model)``."""
    return "_orig_mod" in module._modules


def _is_wrapper(module: nn.Module) -> bool:
    # Models may have a layer called "module", but none with the other names.
    named_module = isinstance(module, nn.DataParallel | DistributedDataParallel | AveragedModel)
    return named_module or any(name in module._modules for name in WRAPPED_NAMES[1:])


def listed(names: Sequence[str]) -> str:
    """Return the names in quotes, separated by commas."""
    return ", ".join(map(repr, names))
