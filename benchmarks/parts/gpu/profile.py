"""Profile of a call: the GPU's idle share, and the time by kind of operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from parts.gpu.roofline import synchronize, time_call
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

CATEGORIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("host transfers", ("htod", "dtoh", "_local_scalar_dense")),
    ("optimizer", ("adam", "multi_tensor_apply", "foreach")),
    ("batch norm", ("batch_norm", "batchnorm", "bn_fw", "bn_bw")),
    (
        "copies, casts and layouts",
        ("copy", "memcpy", "memset", "catarray", "::cat", "chwto", "hwcto", "convert"),
    ),
    ("pooling and resizing", ("pool", "upsample", "interpol", "grid_sampl")),
    ("convolutions and matrix products", ("conv", "gemm", "xmma", "cutlass", "cudnn", "wgrad", "dgrad", "nvjet", "mm")),
    ("indexing and sorting", ("index", "gather", "scatter", "sort", "topk", "embedding")),
    ("sums and norms", ("reduce", "softmax", "sum", "norm", "mean", "max", "min", "all")),
    ("element-wise operations", ("elementwise", "relu", "add", "mul", "div", "sub", "sigmoid", "pow", "exp", "triton")),
)
"""Category to parts of a kernel's name in lower case; the first match counts."""

MAX_KERNELS = 5
"""Number of kernels listed by name."""


def category(name: str) -> str:
    """Return the category of a kernel, or of an operation on a CPU."""
    lower = name.lower()
    return next((kind for kind, parts in CATEGORIES if any(part in lower for part in parts)), "other")


def device_profile(
    call: Callable[[], object], device: torch.device, *, calls: int = 3, seconds: float = 0.2
) -> dict[str, Any]:
    """Return the seconds per call, the GPU's idle share, and the time by kind of operation.

    The seconds are measured without the profiler, because it slows the host. On a CPU the idle share is None, and the
    profile is of operations instead of kernels.

    Args:
        call: the call.
        device: the call's device.
        calls: number of profiled calls.
        seconds: seconds per round of the timing.
    """
    elapsed = time_call(call, device, seconds=seconds)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiler:
        for _ in range(calls):
            call()
        synchronize(device)
    spans: dict[str, float] = defaultdict(float)
    if device.type == "cuda":
        kernels = [
            event for event in profiler.events() if event.device_type == DeviceType.CUDA and not _is_annotation(event)
        ]
        for event in kernels:
            spans[event.name] += event.time_range.elapsed_us() / 1e6 / calls
        busy = covered_time((event.time_range.start, event.time_range.end) for event in kernels) / 1e6 / calls
    else:
        for row in profiler.key_averages():
            spans[row.key] += row.self_cpu_time_total / 1e6 / calls
        busy = None
    return {"seconds": elapsed, "idle": None if busy is None else max(0.0, 1 - busy / elapsed), **summary(spans)}


def summary(spans: dict[str, float]) -> dict[str, Any]:
    """Return the share of each category, and of the longest kernels."""
    total = sum(spans.values()) or 1.0
    kinds: dict[str, float] = defaultdict(float)
    for name, seconds in spans.items():
        kinds[category(name)] += seconds / total
    ordered = sorted(kinds.items(), key=lambda item: -item[1])
    longest = sorted(spans.items(), key=lambda item: -item[1])[:MAX_KERNELS]
    return {
        "shares": {name: round(share, 3) for name, share in ordered},
        "longest": {name[:120]: round(seconds / total, 3) for name, seconds in longest},
    }


def covered_time(spans: Iterable[tuple[float, float]]) -> float:
    """Return the time covered by the spans; overlaps count once."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _is_annotation(event: Any) -> bool:
    """Return whether the event is an annotation instead of a kernel."""
    return bool(getattr(event, "is_user_annotation", False)) or event.name.startswith(("Optimizer.", "ProfilerStep"))
