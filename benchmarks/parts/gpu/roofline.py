"""Roofline of a device: measured ceilings of arithmetic and bandwidth, and the share that a call reaches.

Counts the multiply-adds of convolutions and matrix products, forward and backward, and their bytes as if each operand
were read once and each result written once. The ceilings are measured with a large matrix product in each precision and
a large copy.
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
    """Wait until the device has finished."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_call(call: Callable[[], object], device: torch.device, *, rounds: int = 5, seconds: float = 0.2) -> float:
    """Return the median over rounds of the mean seconds per call.

    A round takes ``seconds``, at least one call. The host synchronizes before and after a round, not between calls.
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
        multiply_adds: number of multiply-adds.
        bytes: size of operands and results.
        precision: ``"float32"``, ``"tf32"``, ``"bfloat16"`` or another type's name.
    """

    multiply_adds: int
    bytes: int
    precision: str


class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records every operation, also those of the backward pass."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: object, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the operation and record it."""
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
        return "tf32"  # PyTorch's default for convolutions, not for matrix products
    return name


def count_operations(call: Callable[[], object]) -> list[Operation]:
    """Return the recorded operations of a call."""
    counting = Counting()
    with counting:
        call()
    return counting.operations


def ceilings(device: torch.device, *, size: int, copy_bytes: int, seconds: float = 0.2) -> dict[str, float]:
    """Return multiply-adds per second by precision, and ``"bytes"`` per second of a copy.

    Args:
        device: the device.
        size: rows and columns of the matrices.
        copy_bytes: size of the copy; it is read once and written once.
        seconds: seconds per round of the timing.
    """
    result: dict[str, float] = {}
    kinds = [("float32", torch.float32, "highest"), ("bfloat16", torch.bfloat16, "highest")]
    if device.type == "cuda":
        kinds.insert(1, ("tf32", torch.float32, "high"))
    before = torch.get_float32_matmul_precision()
    try:
        for name, dtype, precision in kinds:
            torch.set_float32_matmul_precision(precision)
            left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
            out = torch.empty_like(left)
            elapsed = time_call(lambda a=left, b=right, c=out: torch.mm(a, b, out=c), device, seconds=seconds)  # type: ignore[misc]
            result[name] = size**3 / elapsed
    finally:
        torch.set_float32_matmul_precision(before)
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    result["bytes"] = 2 * copy_bytes / time_call(lambda: target.copy_(source), device, seconds=seconds)
    return result


def shares_of_ceilings(operations: list[Operation], seconds: float, ceiling: Mapping[str, float]) -> dict[str, float]:
    """Return multiply-adds, bytes, and the shares of the ceilings reached in this time.

    ``"of the roofline"`` is the minimum time relative to the time taken. An operation's minimum is the longer of its
    arithmetic and its memory traffic at the ceilings.
    """
    computing = sum(each.multiply_adds / ceiling[each.precision] for each in operations)
    moving = sum(each.bytes for each in operations) / ceiling["bytes"]
    least = sum(max(each.multiply_adds / ceiling[each.precision], each.bytes / ceiling["bytes"]) for each in operations)
    return {
        "multiply-adds": sum(each.multiply_adds for each in operations),
        "bytes": sum(each.bytes for each in operations),
        "of the arithmetic": computing / seconds,
        "of the bandwidth": moving / seconds,
        "of the roofline": least / seconds,
    }
