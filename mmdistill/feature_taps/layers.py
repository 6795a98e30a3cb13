"""Which layer a name means, through the wrappers of parallel and compiled models."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from mmdistill._checks.arguments import short_repr

WRAPPERS = ("module", "_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
"""What DataParallel, DistributedDataParallel and AveragedModel, torch.compile, and others call what they wrap."""


class TapError(LookupError):
    """A layer is not there, was not run, or what was recorded of it is not to be trusted."""


def resolve(model: nn.Module, paths: Mapping[str, str]) -> dict[str, nn.Module]:
    """Return the layers that the names mean now, given the paths that they had before."""
    try:
        layers = {name: model.get_submodule(path) for name, path in paths.items()}
        if any(isinstance(layer, torch.jit.ScriptModule) for layer in layers.values()):
            raise AttributeError
    except AttributeError:  # it lies elsewhere by now, or is refused
        layers = {name: model.get_submodule(path) for name, path in find_layers(model, list(paths)).items()}
    return {name: _without_compiler(layer) for name, layer in layers.items()}


def find_layers(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Return each name's path in the model, the wrappers on the way included."""
    modules = dict(model.named_modules(remove_duplicate=False))
    wrappers = {path for path, module in modules.items() if _is_wrapper(module)}
    # Backwards, so that of a wrapper and what it wraps, which share a plain name, the wrapper has it.
    plain = {_without_wrappers(path, wrappers): path for path in reversed(modules)}
    paths = {}
    for name in names:
        bare = ".".join(part for part in name.split(".") if part not in WRAPPERS)
        path = name if name in modules else plain.get(name, plain.get(bare))
        if path is None:
            raise TapError(f"FeatureTaps: names: no layer {short_repr(name)}; {_suggestion(name, list(plain)[::-1])}")
        if isinstance(modules[path], torch.jit.ScriptModule):
            raise TapError(
                f"FeatureTaps: names: {name!r} is TorchScript, which runs no hooks; tap it before it is compiled"
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
    """Code compiled around a compiled layer runs the original and none of the wrapper's hooks."""
    while _is_compiler(module):
        module = module.get_submodule("_orig_mod")
    return module


def _is_compiler(module: nn.Module) -> bool:
    """Whether it is what ``torch.compile(model)`` returns."""
    return "_orig_mod" in module._modules


def _is_wrapper(module: nn.Module) -> bool:
    # A model of one's own may call a layer "module"; none calls it by the other names.
    named_module = isinstance(module, nn.DataParallel | DistributedDataParallel | AveragedModel)
    return named_module or any(name in module._modules for name in WRAPPERS[1:])


def listed(names: Sequence[str]) -> str:
    """Return the names quoted, with commas."""
    return ", ".join(map(repr, names))
