"""The hook on one tapped layer, and the features that it recorded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

from mmdistill._checks.arguments import short_repr
from mmdistill._execution import in_transform, transform_levels
from mmdistill.feature_taps.layers import TapError
from mmdistill.fusion.paths import FusedPaths


class Call(NamedTuple):
    """One call's feature, the versions of its tensors when they were recorded, and the call before."""

    feature: Any
    versions: tuple[int | None, ...] | None
    earlier: Call | None

    def checked(self, name: str) -> Any:
        """Return the feature; TapError if one of its tensors was overwritten."""
        leaves = _tensors(self.feature)
        if not in_transform() and any(transform_levels(leaf).vmap for leaf in leaves):
            raise TapError(f"FeatureTaps: {name!r} ran inside torch.vmap; read it there and return it")
        for leaf, version in zip(leaves, self.versions or (), strict=False):
            if version is not None and leaf._version != version:
                raise TapError(
                    f"FeatureTaps: {name!r} was overwritten in place after it was recorded; use copy=True, "
                    "or, if it is True, tap the layer before: this layer returns its own input"
                )
        return self.feature


@dataclass(eq=False)
class Tap:
    """One name's hook and what it recorded. Without a layer, as in copies, the hook does nothing."""

    name: str
    select: Callable[[Any], Any] | None = None
    copy: bool = True
    layer: nn.Module | None = None
    ran: bool = False
    # A chain and no list: torch.compile guards on a list's length, so each call would compile anew.
    newest: Call | None = None
    _thread: int = 0
    _handle: RemovableHandle | None = None
    _marker: Any = None
    _unmarked: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """A model that is copied or pickled inside the block takes along a hook that does nothing."""
        return {"name": self.name}

    def attach(self, layer: nn.Module) -> None:
        """Begin to record the calls that this thread makes of the layer."""
        self.layer, self.ran, self.newest, self._thread = layer, False, None, threading.get_ident()
        self._mark(layer)
        self._handle = layer.register_forward_hook(self.record)

    def detach(self) -> None:
        """Remove the hook; what was recorded stays."""
        layer, self.layer = self.layer, None
        if self._handle is None or layer is None:
            return
        self._handle.remove()
        if not _taps_on(layer) and layer.__dict__.get("forward") is self._marker:
            if self._unmarked is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = self._unmarked
        self._handle = self._marker = self._unmarked = None

    def record(self, module: nn.Module, _: object, output: Any) -> Any:
        """Keep the feature; with ``copy`` return the output with copies in its place, for the model to go on with."""
        if self.layer is None:
            return None
        if module is not self.layer:
            raise TapError(f"FeatureTaps: {self.name!r} ran in a DataParallel replica; use DistributedDataParallel")
        compiling = torch.compiler.is_compiling()
        if not compiling and threading.get_ident() != self._thread and not _in_backward():
            return None
        feature = self._selected(output)
        leaves = _tensors(feature)
        if compiling or not _in_backward():
            versions = None if compiling else tuple(None if leaf.is_inference() else leaf._version for leaf in leaves)
            self.ran, self.newest = True, Call(feature, versions, self.newest)
        return _copied(output, leaves) if compiling or self.copy else None

    def calls(self) -> list[Call]:
        """Return the recorded calls in order."""
        calls, call = [], self.newest
        while call is not None:
            calls.append(call)
            call = call.earlier
        return calls[::-1]

    def _selected(self, output: Any) -> Any:
        if self.select is None:
            if isinstance(output, (Tensor, FusedPaths)):
                return output
            raise TapError(
                f"FeatureTaps: {self.name!r} gives no tensor but a {type(output).__name__}; "
                f"choose one, such as select={{{self.name!r}: lambda output: output[0]}}"
            )
        try:
            feature = self.select(output)
        except (LookupError, TypeError, AttributeError) as error:
            raise TapError(
                f"FeatureTaps: select[{self.name!r}] failed on a {type(output).__name__}: {short_repr(error)}"
            ) from error
        if not _tensors(feature):
            raise TapError(f"FeatureTaps: select[{self.name!r}] gives no tensor but a {type(feature).__name__}")
        return feature

    def _mark(self, layer: nn.Module) -> None:
        """Give the layer a ``forward`` of its own, the same as before.

        Compiled code skips hooks that are added to a layer that had none (pytorch issue 117758). But it checks whether
        a layer's ``forward`` was replaced. So the model compiles once with taps and once without.
        """
        other = next(iter(_taps_on(layer)), None)
        if other is not None:
            self._marker, self._unmarked = other._marker, other._unmarked
            return
        self._unmarked = layer.__dict__.get("forward")
        self._marker = layer.forward if self._unmarked is None else partial(self._unmarked)
        layer.__dict__["forward"] = self._marker


def _taps_on(layer: nn.Module) -> list[Tap]:
    owners = (getattr(hook, "__self__", None) for hook in layer._forward_hooks.values())
    return [owner for owner in owners if isinstance(owner, Tap) and owner.layer is layer]


def _tensors(feature: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(feature) if isinstance(leaf, Tensor)]


def _copied(output: Any, features: list[Tensor]) -> Any:
    """Return the output with copies of the features; with copies of all its tensors if a feature is a view of one."""
    outputs = _tensors(output)
    views = not all(any(leaf is feature for leaf in outputs) for feature in features)

    def copied(leaf: Any) -> Any:
        wanted = isinstance(leaf, Tensor) and (views or any(leaf is feature for feature in features))
        return leaf.clone() if wanted else leaf

    return pytree.tree_map(copied, output)


def _in_backward() -> bool:
    """Whether the layer runs again inside a backward pass, as activation checkpointing has it."""
    # PyTorch tells it only in private; where that changes, such calls are recorded too.
    running = getattr(torch._C, "_current_graph_task_id", None)
    return running is not None and bool(running() != -1)
