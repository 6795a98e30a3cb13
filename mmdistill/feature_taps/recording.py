"""The hook on a tapped layer, and the features that it records."""

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
    """One call of a layer.

    Attributes:
        feature: the recorded feature.
        versions: its tensors' versions when it was recorded.
        previous: the call before.
    """

    feature: Any
    versions: tuple[int | None, ...] | None
    previous: Call | None

    def checked(self, name: str) -> Any:
        """Return the feature; raise a TapError if one of its tensors was overwritten."""
        leaves = _tensors(self.feature)
        if not in_transform() and any(transform_levels(leaf).vmap for leaf in leaves):
            raise TapError(f"FeatureTaps: {name!r} ran inside torch.vmap; read it there and return it")
        for leaf, version in zip(leaves, self.versions or (), strict=False):
            if version is not None and leaf._version != version:
                raise TapError(
                    f"FeatureTaps: {name!r} was overwritten in place after it was recorded; use copy=True. With "
                    "copy=True, tap the layer before, because this layer returns its own input"
                )
        return self.feature


@dataclass(eq=False)
class Tap:
    """The hook of one name, with its recorded calls. Without a layer, as in copies, it records nothing."""

    name: str
    select: Callable[[Any], Any] | None = None
    copy: bool = True
    layer: nn.Module | None = None
    ran: bool = False
    # A linked list, because torch.compile guards on a list's length and would recompile at each call.
    newest: Call | None = None
    _thread: int = 0
    _handle: RemovableHandle | None = None
    _marker: Any = None
    _unmarked: Any = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave everything but the name out of copies and pickles, whose hooks then record nothing."""
        return {"name": self.name}

    def attach(self, layer: nn.Module) -> None:
        """Start to record this thread's calls of the layer."""
        self.layer, self.ran, self.newest, self._thread = layer, False, None, threading.get_ident()
        self._mark(layer)
        self._handle = layer.register_forward_hook(self.record)

    def detach(self) -> None:
        """Remove the hook; recorded calls stay."""
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
        """Record the feature; with ``copy``, return the output with copies of it, with which the model goes on."""
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
        return _with_copies(output, leaves) if compiling or self.copy else None

    def calls(self) -> list[Call]:
        """Return the recorded calls in order."""
        calls, call = [], self.newest
        while call is not None:
            calls.append(call)
            call = call.previous
        return calls[::-1]

    def _selected(self, output: Any) -> Any:
        if self.select is None:
            if isinstance(output, (Tensor, FusedPaths)):
                return output
            raise TapError(
                f"FeatureTaps: {self.name!r}: expected a tensor as output, got a {type(output).__name__}; "
                f"select one, such as select={{{self.name!r}: lambda output: output[0]}}"
            )
        try:
            feature = self.select(output)
        except (LookupError, TypeError, AttributeError) as error:
            raise TapError(
                f"FeatureTaps: select[{self.name!r}] failed on a {type(output).__name__}: {short_repr(error)}"
            ) from error
        if not _tensors(feature):
            raise TapError(f"FeatureTaps: select[{self.name!r}]: expected tensors, got a {type(feature).__name__}")
        return feature

    def _mark(self, layer: nn.Module) -> None:
        """Replace the layer's ``forward`` by an equal one, so that compiled models notice the hook.

        Compiled code ignores hooks on a layer that had none when it was compiled (pytorch issue 117758), but checks
        whether ``forward`` was replaced. So the model is compiled once with taps and once without.
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


def _with_copies(output: Any, features: list[Tensor]) -> Any:
    """Return the output with copies of the features, or of all its tensors if a feature is not one of them."""
    outputs = _tensors(output)
    views = not all(any(leaf is feature for leaf in outputs) for feature in features)

    def copy(leaf: Any) -> Any:
        is_feature = isinstance(leaf, Tensor) and (views or any(leaf is feature for feature in features))
        return leaf.clone() if is_feature else leaf

    return pytree.tree_map(copy, output)


def _in_backward() -> bool:
    """Return whether a backward pass runs, in which activation checkpointing runs layers again."""
    # A private function of PyTorch; without it such calls are recorded too.
    running = getattr(torch._C, "_current_graph_task_id", None)
    return running is not None and bool(running() != -1)
