"""Where a device's time goes: how long it has nothing to do, and what it does in the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from parts.gpu.roofline import seconds_of, synchronize
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.profiler import ProfilerActivity, profile

CATEGORIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("to and from the host", ("htod", "dtoh", "_local_scalar_dense")),
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
    ("element by element", ("elementwise", "relu", "add", "mul", "div", "sub", "sigmoid", "pow", "exp", "triton")),
)
"""By parts of a kernel's name, in lower case; the first that fits."""

MAX_KERNELS = 5
"""How many kernels are named."""


def category(name: str) -> str:
    """Return what a kernel, or on a CPU an operation, does."""
    lower = name.lower()
    return next((kind for kind, parts in CATEGORIES if any(part in lower for part in parts)), "the rest")


def device_profile(
    call: Callable[[], object], device: torch.device, *, calls: int = 3, seconds: float = 0.2
) -> dict[str, Any]:
    """Return the seconds of a call, the share of them in which the device has nothing to do, and what it does.

    The seconds are taken without the profiler, which slows the host; kernels are as long with it. On a CPU there is no
    idle share, and operations stand for kernels.

    Args:
        call: what is looked at.
        device: where it runs.
        calls: how many are looked at.
        seconds: of a round of measuring.
    """
    took = seconds_of(call, device, seconds=seconds)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as found:
        for _ in range(calls):
            call()
        synchronize(device)
    spans: dict[str, float] = defaultdict(float)
    if device.type == "cuda":
        kernels = [event for event in found.events() if event.device_type == DeviceType.CUDA and not _is_note(event)]
        for event in kernels:
            spans[event.name] += event.time_range.elapsed_us() / 1e6 / calls
        busy = union((event.time_range.start, event.time_range.end) for event in kernels) / 1e6 / calls
    else:
        for row in found.key_averages():
            spans[row.key] += row.self_cpu_time_total / 1e6 / calls
        busy = None
    return {"seconds": took, "idle": None if busy is None else max(0.0, 1 - busy / took), **summary(spans)}


def summary(spans: dict[str, float]) -> dict[str, Any]:
    """Return the shares of each category, and of the kernels that take longest."""
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


def union(spans: Iterable[tuple[float, float]]) -> float:
    """Return the length that spans cover, those of several streams at once counted once."""
    covered, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return covered


def _is_note(event: Any) -> bool:
    """Whether it is a label that PyTorch or a program put over a span of kernels."""
    return bool(getattr(event, "is_user_annotation", False)) or event.name.startswith(("Optimizer.", "ProfilerStep"))
