"""FeatureTaps: the features of any nn.Module's layers, by layer name."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from mmdistill import _checks
from mmdistill.taps.compiled import skips_hooks
from mmdistill.taps.layers import TapError, find_layers, listed


class TapWarning(UserWarning):
    """A tapped layer never ran."""


class FeatureTaps(Mapping[str, Tensor]):
    """The features of named layers of any model: a context manager, and a mapping from name to tensor.

    Names are those of ``model.named_modules()``, ``""`` for the model itself. The prefixes that wrapping adds,
    ``module.`` and ``_orig_mod.``, may be written or left out. Hooks are there from enter to exit; features stay
    until the next enter or ``clear()``, with their graph, so clear where memory matters.
    A module under two names is one module: either name hears all of its calls.

    Under ``torch.compile`` enter before the first compiled call; the model is compiled once with taps and, where
    it is called outside the block too, once without. A model that already ran compiled, without taps and in the
    same mode, would skip the hooks: it is refused.

    Args:
        model: any module, wrapped or not. Nothing of it is changed but its hooks.
        names: the layers, in the order in which they are iterated over.
        select: by name, what to take of a layer's output that is no tensor: ``{"attn": lambda output: output[0]}``.
        copy: whether the model goes on with a copy of each tapped feature, so that no in-place layer that
            follows, such as ``ReLU(inplace=True)`` or ``x += shortcut``, overwrites it. Costs the copy's memory
            and time. Without it a feature that was overwritten is refused on access. Compiled code always copies.

    Raises:
        ValueError: at construction, no module, or a ``select`` or ``copy`` that is none.
        TapError: at construction, no such layer; at enter, a layer that already ran compiled, or taps already
            entered; in the model's call, an output that is no tensor; on access, a layer that did not run, or a
            feature that was overwritten in place.

    Warns:
        TapWarning: at exit, a layer that never ran.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from mmdistill.taps import FeatureTaps
        >>> student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(inplace=True), nn.Conv2d(8, 4, 3))
        >>> with FeatureTaps(student, ["0", "2"]) as taps:
        ...     _ = student(torch.zeros(2, 3, 16, 24))  # RGB
        ...     _ = student(torch.ones(2, 3, 16, 24))  # TIR
        >>> {name: tuple(features.shape) for name, features in taps.items()}
        {'0': (2, 8, 14, 22), '2': (2, 4, 12, 20)}
        >>> rgb, tir = taps.calls("0")
        >>> tir is taps["0"]
        True
    """

    def __init__(
        self,
        model: nn.Module,
        names: Sequence[str],
        *,
        select: Mapping[str, Callable[[Any], Tensor]] | None = None,
        copy: bool = True,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise _checks.refuse("FeatureTaps", "model", "a module", model)
        copy = _checks.flag("FeatureTaps", "copy", copy)
        names, select = _checked(names), {} if select is None else select
        if not isinstance(select, Mapping) or not all(callable(value) for value in select.values()):
            raise _checks.refuse("FeatureTaps", "select", "a mapping from names to what can be called", select)
        unknown = sorted(select.keys() - set(names))
        if unknown:
            raise TapError(f"FeatureTaps: select: expected names that are tapped, got {unknown}")
        self._model = model
        self._paths = find_layers(model, names)
        self._taps = {
            name: _Tap(name, model.get_submodule(path), select.get(name), copy) for name, path in self._paths.items()
        }
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> FeatureTaps:
        if self._handles:
            raise TapError("FeatureTaps: already entered; leave the block first, or build a second one")
        for name, path in self._paths.items():
            if skips_hooks(self._model, path):
                raise TapError(
                    f"FeatureTaps: {name!r} already ran inside torch.compile, and that code skips hooks added now; "
                    "enter the taps before the first compiled call, "
                    "or set torch._dynamo.config.skip_nnmodule_hook_guards = False before it"
                )
        self.clear()
        for tap in self._taps.values():
            tap.ran = False
            self._handles.append(tap.module.register_forward_hook(tap.record))
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        while self._handles:
            self._handles.pop().remove()
        if error is None and self.silent:
            warnings.warn(f"FeatureTaps: never ran: {', '.join(map(repr, self.silent))}", TapWarning, stacklevel=2)

    @property
    def silent(self) -> list[str]:
        """The names of the layers that did not run since the last enter."""
        return [name for name, tap in self._taps.items() if not tap.ran]

    def calls(self, name: str) -> list[Tensor]:
        """Return what the layer gave at each of its calls since the enter or the last ``clear()``, in order.

        Raises:
            TapError: no such layer is tapped, it did not run, or a feature was overwritten in place.
        """
        return [call.checked(name) for call in self._recorded(name)]

    def clear(self) -> None:
        """Let go of all features, inside the block or after it."""
        for tap in self._taps.values():
            tap.newest = None

    def __getitem__(self, name: str) -> Tensor:
        return self._recorded(name)[-1].checked(name)

    def __contains__(self, name: object) -> bool:
        return name in self._taps

    def __iter__(self) -> Iterator[str]:
        return iter(self._taps)

    def __len__(self) -> int:
        return len(self._taps)

    def _recorded(self, name: str) -> list[_Call]:
        if name not in self._taps:
            raise TapError(f"FeatureTaps: {name!r} is not tapped; tapped are {listed(list(self._taps))}")
        tap = self._taps[name]
        recorded = tap.calls()
        if recorded:
            return recorded
        if tap.ran:
            raise TapError(f"FeatureTaps: {name!r} did not run since clear()")
        raise TapError(
            f"FeatureTaps: {name!r} did not run since the taps were entered: the model was not called in the block, "
            "its forward goes past this layer, another copy of it was called, "
            "or it was compiled before, and compiled code skips hooks added later"
        )


class _Call(NamedTuple):
    """One call's feature, its version when it was recorded, and the call before."""

    feature: Tensor
    version: int | None
    earlier: _Call | None

    def checked(self, name: str) -> Tensor:
        if self.version is not None and self.feature._version != self.version:
            raise TapError(
                f"FeatureTaps: {name!r} was overwritten in place after it was recorded; use copy=True, "
                "or where that is on tap the layer before: this one hands on its own input"
            )
        return self.feature


@dataclass(eq=False)
class _Tap:
    """One layer's hook and what it recorded."""

    name: str
    module: nn.Module
    select: Callable[[Any], Tensor] | None
    copy: bool
    ran: bool = False
    # A chain and no list: torch.compile guards on a list's length, so each call would compile anew.
    newest: _Call | None = None

    def record(self, module: nn.Module, _: object, output: Any) -> Any:
        if module is not self.module:
            raise TapError(f"FeatureTaps: {self.name!r} ran in a DataParallel replica; use DistributedDataParallel")
        feature = output if self.select is None else self.select(output)
        if not isinstance(feature, Tensor):
            raise TapError(
                f"FeatureTaps: {self.name!r} gives no tensor but a {type(feature).__name__}; "
                f"choose one, such as select={{{self.name!r}: lambda output: output[0]}}"
            )
        compiling = torch.compiler.is_compiling()
        version = None if compiling or feature.is_inference() else feature._version
        self.ran, self.newest = True, _Call(feature, version, self.newest)
        if compiling or self.copy:
            return pytree.tree_map(lambda leaf: leaf.clone() if leaf is feature else leaf, output)
        return None

    def calls(self) -> list[_Call]:
        calls, call = [], self.newest
        while call is not None:
            calls.append(call)
            call = call.earlier
        return calls[::-1]


def _checked(names: Sequence[str]) -> list[str]:
    """Refuse what is no sequence of different names, at least one."""
    if isinstance(names, str):
        raise TapError(f"FeatureTaps: names: expected a sequence of names, got {_checks.shown(names)}")
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise TapError(f"FeatureTaps: names: expected a sequence of names, got {_checks.shown(names)}")
    if not names:
        raise TapError("FeatureTaps: names: expected at least one")
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if twice:
        raise TapError(f"FeatureTaps: names: expected each once, got {listed(twice)} twice")
    return list(names)
