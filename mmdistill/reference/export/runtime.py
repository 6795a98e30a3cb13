"""An ONNX file, run by onnxruntime.

How far a file is from the network it was made of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor

from mmdistill.reference.export.conversion import import_extra
from mmdistill.reference.export.graphs import Graph
from mmdistill.toolkit.data_issues import DataError

REMEDY = "session.x64quantprecision=1"
"""onnxruntime's session option against saturation on x86 processors without VNNI; without effect on others."""


class OnnxGraph:
    """A file's graph as a function of tensors, on the CPU.

    Args:
        path: the file.
        threads: how many work on one operation; 0 for as many as there are cores.

    Attributes:
        metadata: what the file says of itself.

    Raises:
        DataError: the file is missing or no ONNX file, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        runtime = import_extra("onnxruntime")
        if not Path(path).is_file():
            raise DataError(f"{path}: there is no such file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        options.add_session_config_entry(*REMEDY.split("="))  # int8 files: the same values on every processor
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes, which share no other base
            raise DataError(f"{path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of inputs, both in the file's order."""
        arrays = (value.detach().contiguous().numpy() for value in inputs)
        outputs = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        return tuple(torch.from_numpy(output) for output in outputs)


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
