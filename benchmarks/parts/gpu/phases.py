"""Counts a call's dispatched operations, bytes and host reads by phase, on any device.

An operation counts unless it is a view, whose result shares memory with an input, or only reserves memory. A GPU
launches at least one kernel for each, so the number bounds the host's time. ``im2col`` counts once per map, as PyTorch
launches it on a GPU.

Two kinds of bytes are counted: of convolutions and matrix products, as in the roofline, and of all operations. Each
input is read once and each result written once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

OTHER = "checks"
"""The phase outside all named ones: in a training step the finite checks, clipping and bookkeeping."""

HOST_READS = ("item", "tolist", "__bool__", "__float__", "__int__")
"""Methods of a tensor that wait for the device."""

OPTIMIZER = "optimizer"
"""The optimizer's phase; its step numbers are on the host, so it waits for nothing."""


class PhaseCounts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operations, bytes and host reads of the current phase.

    Attributes:
        phase: the current phase.
        operations: each phase's operations by name, views left out.
        bytes: each phase's bytes of all operations.
        roofline_bytes: each phase's bytes of convolutions and matrix products.
        host_reads: each phase's number of reads by the host.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.phase = OTHER
        self.operations: dict[str, Counter[str]] = {}
        self.bytes, self.roofline_bytes, self.host_reads = Counter[str](), Counter[str](), Counter[str]()

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the operation and count it."""
        del types
        out = func(*args, **(kwargs or {}))
        inputs, results = ([x for x in tree_leaves(each) if isinstance(x, Tensor)] for each in ((args, kwargs), out))
        is_view = not func._schema.is_mutable and bool(_memory(inputs) & _memory(results))
        if not is_view and func.namespace != "profiler" and "empty" not in str(func):
            moved = sum(tensor.nbytes for tensor in (*inputs, *results))
            launches = len(inputs[0]) if "im2col" in str(func) else 1
            self.operations.setdefault(self.phase, Counter())[str(func)] += launches
            self.bytes[self.phase] += moved
            if func._overloadpacket in flop_registry:
                self.roofline_bytes[self.phase] += moved
        return out

    @contextmanager
    def enter(self, phase: str) -> Iterator[None]:
        """Count the block in a phase."""
        before, self.phase = self.phase, phase
        try:
            yield
        finally:
            self.phase = before

    def report(self) -> dict[str, dict[str, int]]:
        """Return the counts of each phase and of all."""
        phases = {
            phase: {
                "operations": sum(names.values()),
                "bytes": self.bytes[phase],
                "roofline bytes": self.roofline_bytes[phase],
                "host reads": self.host_reads[phase],
            }
            for phase, names in sorted(self.operations.items())
        }
        keys = next(iter(phases.values()))
        return {**phases, "all": {key: sum(counts[key] for counts in phases.values()) for key in keys}}


def count_phases(call: Callable[[], object], phases: dict[str, list[tuple[Any, str]]]) -> PhaseCounts:
    """Return the counts of a call.

    Args:
        call: the call.
        phases: by phase, the functions that run in it, as pairs of owner and attribute.
    """
    counts = PhaseCounts()
    with ExitStack() as stack:
        for phase, functions in phases.items():
            for owner, name in functions:
                stack.enter_context(_replaced(owner, name, _entering(counts, phase)))
        for name in HOST_READS:
            stack.enter_context(_replaced(Tensor, name, _reading(counts)))
        stack.enter_context(counts)
        call()
    return counts


def _memory(tensors: list[Tensor]) -> set[int]:
    return {tensor.untyped_storage().data_ptr() for tensor in tensors} - {0}


def _entering(counts: PhaseCounts, phase: str) -> Callable[[Any], Any]:
    def change(function: Any) -> Any:
        def called(*arguments: Any, **options: Any) -> Any:
            with counts.enter(phase):
                return function(*arguments, **options)

        return called

    return change


def _reading(counts: PhaseCounts) -> Callable[[Any], Any]:
    def change(function: Any) -> Any:
        def called(tensor: Tensor, *arguments: Any) -> Any:
            counts.host_reads[counts.phase] += counts.phase != OPTIMIZER
            with torch.utils._python_dispatch._disable_current_modes():
                return function(tensor, *arguments)

        return called

    return change


@contextmanager
def _replaced(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    original = getattr(owner, name)
    own = name in vars(owner)
    setattr(owner, name, change(original))
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)
