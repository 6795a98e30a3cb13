"""How fast a device could be at best, and how close to that something comes.

Counted are convolutions and matrix products as PyTorch dispatches them, forward and backward: multiply-adds, and bytes
as if each operand were read once and each result written once. Between them a device has only to move what they leave,
so all else that takes time is a choice. The ceilings are measured: a large matrix product in each precision, and a
large copy.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


def synchronize(device: torch.device) -> None:
    """Wait for all that was queued."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_of(call: Callable[[], object], device: torch.device, *, rounds: int = 5, seconds: float = 0.2) -> float:
    """Return the median over some rounds of a call's mean time; each round takes so many seconds or one call.

    The host waits for the device before and after a round, not between calls.
    """
    for _ in range(2):
        call()
    synchronize(device)
    start = time.perf_counter()
    call()
    synchronize(device)
    calls = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
    means = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        synchronize(device)
        means.append((time.perf_counter() - start) / calls)
    return statistics.median(means)


@dataclass(frozen=True)
class Operation:
    """A convolution or matrix product.

    Attributes:
        multiply_adds: what it computes.
        bytes: of operands and results.
        precision: ``"float32"``, ``"tf32"``, ``"bfloat16"`` or another type's name.
    """

    multiply_adds: int
    bytes: int
    precision: str


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation while it is entered, also those of the backward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call, and note what was called."""
        del types
        out = func(*args, **(kwargs or {}))
        flops = flop_registry.get(func._overloadpacket)
        if flops is not None:
            tensors = [value for value in tree_leaves((args, kwargs, out)) if isinstance(value, Tensor)]
            precision = _precision(tensors[0], "convolution" in func._overloadpacket.__name__)
            moved = sum(tensor.nbytes for tensor in tensors)
            self.operations.append(Operation(int(flops(*args, **(kwargs or {}), out_val=out)) // 2, moved, precision))
        return out


def _precision(tensor: Tensor, convolution: bool) -> str:
    name = str(tensor.dtype).removeprefix("torch.")
    if name == "float32" and tensor.is_cuda and convolution and torch.backends.cudnn.allow_tf32:
        return "tf32"  # PyTorch's default for convolutions, and not for matrix products
    return name


def counted(call: Callable[[], object]) -> list[Operation]:
    """Return the operations of a call."""
    counting = Counting()
    with counting:
        call()
    return counting.operations


def ceilings(device: torch.device, *, size: int, copied: int, seconds: float = 0.2) -> dict[str, float]:
    """Return multiply-adds a second of a matrix product by precision, and ``"bytes"`` a second of a copy.

    Args:
        device: which.
        size: rows and columns of the matrices.
        copied: bytes of the copy, read once and written once.
        seconds: of a round of measuring.
    """
    found: dict[str, float] = {}
    kinds = [("float32", torch.float32, "highest"), ("bfloat16", torch.bfloat16, "highest")]
    if device.type == "cuda":
        kinds.insert(1, ("tf32", torch.float32, "high"))
    before = torch.get_float32_matmul_precision()
    try:
        for name, dtype, precision in kinds:
            torch.set_float32_matmul_precision(precision)
            left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            out = torch.empty_like(left)
            took = seconds_of(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device, seconds=seconds)  # type: ignore[misc]
            found[name] = size**3 / took
    finally:
        torch.set_float32_matmul_precision(before)
    source = torch.zeros(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    found["bytes"] = 2 * copied / seconds_of(lambda: target.copy_(source), device, seconds=seconds)
    return found


def of_ceilings(operations: list[Operation], seconds: float, found: Mapping[str, float]) -> dict[str, float]:
    """Return what was counted, and which shares of the ceilings it reaches in so many seconds.

    ``"of the roofline"`` is the time that each operation must take, by what it computes or by what it moves, whichever
    is longer, relative to the time taken.
    """
    computing = sum(each.multiply_adds / found[each.precision] for each in operations)
    moving = sum(each.bytes for each in operations) / found["bytes"]
    least = sum(max(each.multiply_adds / found[each.precision], each.bytes / found["bytes"]) for each in operations)
    return {
        "multiply-adds": sum(each.multiply_adds for each in operations),
        "bytes": sum(each.bytes for each in operations),
        "of the arithmetic": computing / seconds,
        "of the bandwidth": moving / seconds,
        "of the roofline": least / seconds,
    }
