"""Whether torch.compile would run a layer without the hooks that are added to it now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn


def is_compiler(module: nn.Module) -> bool:
    """Whether it is what ``torch.compile(model)`` returns."""
    return "_orig_mod" in module._modules


def skips_hooks(model: nn.Module, path: str) -> bool:
    """Whether compiled code exists that would run this layer without a hook added now (pytorch issue 117758).

    torch answers this only in private, by the guards of the code that it compiled. Where that changes the answer
    is no, and a layer that stays silent is reported at exit and on access.
    """
    compiled = False
    parts = path.split(".") if path else []
    for depth in range(len(parts)):
        module = model.get_submodule(".".join(parts[:depth]))
        compiled = compiled or is_compiler(module) or getattr(module, "_compiled_call_impl", None) is not None
        if compiled and _ran_compiled(module, parts[depth:]):
            return True
    return False


def _ran_compiled(module: nn.Module, path: Sequence[str]) -> bool:
    """Whether code compiled from the module's forward would run it again, and runs the layer at ``path``."""
    try:
        from torch._dynamo import config
        from torch._dynamo.eval_frame import _debug_get_cache_entry_list

        function = getattr(module.forward, "_torchdynamo_orig_callable", module.forward)
        if is_compiler(module):
            module, path = module.get_submodule("_orig_mod"), path[1:]
        code = function.__code__
        local = (code.co_varnames[: code.co_argcount] + code.co_freevars)[0]
        entries = _debug_get_cache_entry_list(code) if config.skip_nnmodule_hook_guards else []
        return any(_accept(entry.guard_manager.root, module, local, path) for entry in entries)
    except (ImportError, AttributeError, TypeError, IndexError):
        return False


def _accept(guards: Any, module: nn.Module, local: str, path: Sequence[str]) -> bool:
    """Whether these guards of compiled code ask something of the layer, and all they ask of the module holds."""
    itself = f"L[{local!r}]"
    layer = itself + "".join(f"._modules[{part!r}]" for part in path) + "."
    sources: list[str] = []

    def concerns_module(guard: Any) -> bool:
        sources.append(guard.get_source())
        return guard is guards or sources[-1].startswith(itself)

    about_module = guards.clone_manager(concerns_module)
    return any(source.startswith(layer) for source in sources) and bool(about_module.check({local: module}))
