"""How far a file is from the network it was made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from torch import Tensor

from mmdistill.reference.errors import DataError
from mmdistill.reference.export.graphs import Graph
from mmdistill.reference.export.session import OnnxGraph

SIZES = ({"batch": 1, "frames": 1, "boxes": 1}, {"batch": 3, "frames": 2, "boxes": 10})
"""Other sizes than the exporter saw."""

TOLERANCE = 1e-4
"""The largest error that rounding in float32 explains, with room to spare."""


def random_inputs(graph: Graph, crop_size: int) -> list[tuple[Tensor, ...]]:
    """Return inputs of several sizes."""
    return [graph.draw(sizes, crop_size, seed) for seed, sizes in enumerate(SIZES)]


def largest_errors(
    graph: Graph, exported: str | Path | Callable[..., tuple[Tensor, ...]], inputs: Iterable[tuple[Tensor, ...]]
) -> dict[str, float]:
    """Return for each of a file's outputs the largest difference, relative to the largest value PyTorch gives.

    Args:
        graph: what the file was made of.
        exported: the file, run by onnxruntime; or another function of the graph's inputs.
        inputs: what to compare on.

    Raises:
        DataError: onnxruntime can't load the file.
    """
    exported = OnnxGraph(exported) if isinstance(exported, str | Path) else exported
    errors = dict.fromkeys(graph.outputs, 0.0)
    for values in inputs:
        for name, mine, theirs in zip(graph.outputs, graph.run(*values), exported(*values), strict=True):
            error = (mine - theirs).abs().max() / mine.abs().max().clamp(min=1e-12)
            errors[name] = max(errors[name], float(error.nan_to_num(nan=float("inf"))))
    return errors


def check(errors: dict[str, float], path: str | Path) -> None:
    """Refuse a float32 file that does not compute what the network computes.

    Raises:
        DataError: an output is further from the network's than rounding explains.
    """
    wrong = [f"{name} by {error:.1e}" for name, error in errors.items() if error > TOLERANCE]
    if wrong:
        raise DataError(f"{path}: not written, it differs from the network: {', '.join(wrong)} of the largest value")
