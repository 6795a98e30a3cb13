"""ONNX files as functions of tensors: run by onnxruntime, or simulated for other processors; and their errors.

On x86 processors without VNNI, onnxruntime's int8 sums saturate: AVX2 and AVX-512 multiply unsigned activations by
signed weights and add the products two by two in 16 bits, cut to 32767 or -32768. Processors with VNNI add in 32 bits.
``SimulatedInt8Graph`` computes such sums on any processor, so both errors are known before a file is deployed.
"""

from __future__ import annotations

import importlib
import logging
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmdistill.reference.export.graphs import Graph
from mmdistill.toolkit.data_issues import DataError

SATURATION_OPTION = "session.x64quantprecision=1"
"""onnxruntime's session option against saturation on x86 processors without VNNI; no effect on others."""

TEST_SEEDS = (1, 2, 3)
"""Seeds of the random inputs that a file is tested on; others than the exporter's 0."""

MIN_SUM, MAX_SUM = -(2**15), 2**15 - 1
"""Range of a sum in 16 bits."""

MAX_SUMS_IN_MEMORY = 2**22

INSTRUCTION_SETS = ("avx512_vnni", "avx_vnni", "avx512bw", "avx2", "sse4_1", "asimddp")
"""Flags of /proc/cpuinfo that decide how 8-bit products are summed, best first."""

_DOMAIN, _OPERATOR = "mmdistill", "Int8Convolution"


def import_optional(name: str) -> ModuleType:
    """Return a module of the ``export`` extra.

    Raises:
        DataError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DataError(
            f"export: {error.name} is not installed; pip install 'mmdistill[export]' installs what exporting needs"
        ) from error


@contextmanager
def silence_warnings() -> Iterator[None]:
    """Suppress warnings and log records below errors; the exporters print many that users cannot act on."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def set_metadata(model: Any, entries: Mapping[str, str]) -> None:
    """Replace the metadata of an ``onnx.ModelProto``."""
    del model.metadata_props[:]
    for key, value in entries.items():
        model.metadata_props.add(key=key, value=value)


class OnnxGraph:
    """An ONNX file as a function of tensors, run by onnxruntime on the CPU.

    Args:
        path: the file.
        threads: threads per operation; 0 for one per core.

    Attributes:
        metadata: the file's metadata.

    Raises:
        DataError: the file is missing or no ONNX file, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        runtime = import_optional("onnxruntime")
        if not Path(path).is_file():
            raise DataError(f"{path}: there is no such file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors only
        options.add_session_config_entry(*SATURATION_OPTION.split("="))  # int8: equal values on all processors
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no other common base
            raise DataError(f"{path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        self._inputs = [node.name for node in self._session.get_inputs()]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for inputs, both in the file's order."""
        arrays = (value.detach().contiguous().numpy() for value in inputs)
        outputs = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        return tuple(torch.from_numpy(output) for output in outputs)


class SimulatedInt8Graph:
    """An int8 file as a function of tensors, evaluated with sums in 16 or in 32 bits.

    Args:
        path: the file.
        saturating: whether sums of two products are cut to 16 bits.
    """

    def __init__(self, path: str | Path, *, saturating: bool) -> None:
        onnx, reference = import_optional("onnx"), import_optional("onnx.reference")
        model = onnx.load(path)
        _replace_convolutions(model)
        for entry in model.opset_import:
            if not entry.domain:  # the evaluator lacks opset 18's quantization, which is unchanged in 19
                entry.version = max(entry.version, 19)
        model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
        self._names = [node.name for node in model.graph.input]
        operators = [_operator(_DOMAIN, _OPERATOR, _convolution(saturating)), _operator("", "MaxPool", _max_pool)]
        self._evaluator = reference.ReferenceEvaluator(model, new_ops=operators)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs for inputs, both in the file's order."""
        arrays = (value.detach().numpy() for value in inputs)
        outputs = self._evaluator.run(None, dict(zip(self._names, arrays, strict=True)))
        return tuple(torch.from_numpy(np.ascontiguousarray(output)) for output in outputs)


def _replace_convolutions(model: Any) -> None:
    """Replace every convolution of 8-bit maps by an operator that takes the maps and their scales."""
    sources = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type != "Conv" or not {node.input[0], node.input[1]} <= sources.keys():
            continue
        inputs = [*sources[node.input[0]].input, *sources[node.input[1]].input, *node.input[2:]]
        del node.input[:]
        node.input.extend(inputs)
        node.op_type, node.domain = _OPERATOR, _DOMAIN
        attributes = [each for each in node.attribute if each.name in ("pads", "strides", "dilations", "group")]
        del node.attribute[:]
        node.attribute.extend(attributes)


def _operator(domain: str, name: str, function: Callable[..., Any]) -> Any:
    """Return an operator class for the evaluator."""
    base = import_optional("onnx.reference.op_run").OpRun
    return type(name, (base,), {"op_domain": domain, "_run": lambda _, *args, **kwargs: (function(*args, **kwargs),)})


def _convolution(saturating: bool) -> Callable[..., Any]:
    """Return an 8-bit convolution with the evaluator's arguments: arrays, then attributes."""

    def convolution(
        image: Any,
        scale: Any,
        zero: Any,
        weight: Any,
        weight_scale: Any,
        weight_zero: Any,
        bias: Any = None,
        pads: Sequence[int] = (0, 0, 0, 0),
        strides: Sequence[int] = (1, 1),
        dilations: Sequence[int] = (1, 1),
        group: int = 1,
    ) -> Any:
        if group != 1 or weight_zero.any():
            raise ValueError(f"int8: expected one group and weights around 0, got {group} and {weight_zero}")
        top, left, bottom, right = pads
        weight = torch.tensor(weight)
        padded = F.pad(torch.tensor(image).int(), (left, right, top, bottom), value=int(zero))
        sums = int8_sums(padded, weight, strides, dilations, saturating=saturating)
        sums -= (int(zero) * weight.long().sum(dim=(1, 2, 3)))[:, None, None]
        result = sums.float() * torch.tensor(scale * weight_scale).reshape(-1, 1, 1)
        if bias is not None:
            result += torch.tensor(bias)[:, None, None]
        return result.numpy()

    return convolution


def _max_pool(image: Any, kernel_shape: Sequence[int], pads: Sequence[int], strides: Sequence[int], **_: object) -> Any:
    """Return max pooling; the evaluator's own takes most of the time."""
    top, left, bottom, right = pads
    padded = F.pad(torch.tensor(image), (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(padded, tuple(kernel_shape), tuple(strides)).numpy()


def int8_sums(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], *, saturating: bool
) -> Tensor:
    """Return the integer sums of a convolution of 8-bit numbers.

    Args:
        image: padded, ``(batch, in, H, W)``, 0 to 255.
        weight: ``(out, in, kH, kW)``, -128 to 127.
        stride: of rows and columns.
        dilation: of rows and columns.
        saturating: whether each sum of two neighboring products, channels fastest, is cut to 16 bits.

    Returns:
        ``(batch, out, H', W')``, int64.
    """
    stride, dilation = tuple(stride), tuple(dilation)
    exact = F.conv2d(image.double(), weight.double(), stride=stride, dilation=dilation).long()  # exact below 2^53
    if not saturating:
        return exact
    count, _, height, width = exact.shape
    columns = F.unfold(image.float(), weight.shape[2:], dilation=dilation, stride=stride)
    columns = columns.view(count, weight.shape[1], -1, height * width).transpose(1, 2).flatten(1, 2)
    factors = weight.float().flatten(2).transpose(1, 2).flatten(1)
    for sums, values in zip(exact, columns, strict=True):
        sums += _saturation_errors(values, factors).view_as(sums)
    return exact


def _saturation_errors(values: Tensor, factors: Tensor) -> Tensor:
    """Return what saturation adds to the sums of ``(K, positions)`` and ``(out, K)``: ``(out, positions)``."""
    if len(values) % 2:
        values, factors = F.pad(values, (0, 0, 0, 1)), F.pad(factors, (0, 1))
    first, second, first_factor, second_factor = values[0::2], values[1::2], factors[:, 0::2], factors[:, 1::2]
    # Few pairs can reach the limits: those whose largest values do.
    max_first, max_second = first.amax(dim=1), second.amax(dim=1)
    highest = max_first * first_factor.clamp(min=0) + max_second * second_factor.clamp(min=0)
    lowest = max_first * first_factor.clamp(max=0) + max_second * second_factor.clamp(max=0)
    outputs, pairs = ((highest > MAX_SUM) | (lowest < MIN_SUM)).nonzero(as_tuple=True)
    total = torch.zeros(len(factors), values.shape[1], dtype=torch.float64)
    size = max(1, MAX_SUMS_IN_MEMORY // values.shape[1])
    for output, pair in zip(torch.split(outputs, size), torch.split(pairs, size), strict=True):
        sums = first[pair] * first_factor[output, pair, None] + second[pair] * second_factor[output, pair, None]
        total.index_add_(0, output, (sums.clamp(MIN_SUM, MAX_SUM) - sums).double())
    return total.long()


def cpu_instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the best of ``INSTRUCTION_SETS`` that this machine has; its architecture's name if that is unknown."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, flags = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                return next((each for each in INSTRUCTION_SETS if each in flags.split()), platform.machine())
    return platform.machine()


def random_inputs(graph: Graph) -> list[tuple[Tensor, ...]]:
    """Return random inputs of ``TEST_SEEDS``."""
    return [graph.draw(seed) for seed in TEST_SEEDS]


def relative_errors(
    graph: Graph,
    exported: str | Path | Callable[..., tuple[Tensor, ...]],
    inputs: Iterable[tuple[Tensor, ...]],
    outputs: Sequence[str] = (),
) -> dict[str, float]:
    """Return each output's largest difference to PyTorch, relative to PyTorch's largest value.

    Args:
        graph: the exported graph.
        exported: the file, run by onnxruntime; or another function of the graph's inputs.
        inputs: the inputs to compare on.
        outputs: names of the outputs to compare; all if empty.

    Raises:
        DataError: onnxruntime can't load the file.
    """
    exported = OnnxGraph(exported) if isinstance(exported, str | Path) else exported
    errors = dict.fromkeys(outputs or graph.outputs, 0.0)
    for values in inputs:
        for name, expected, output in zip(graph.outputs, graph.run(*values), exported(*values), strict=True):
            if name in errors:
                largest = expected.float().abs().max().clamp(min=1e-12)
                error = (expected.float() - output.float()).abs().max() / largest
                errors[name] = max(errors[name], float(error.nan_to_num(nan=float("inf"))))
    return errors


def check_errors(errors: Mapping[str, float], limit: float, path: str | Path) -> None:
    """Refuse a float32 file that differs from its network.

    Raises:
        DataError: an output's error is above the limit.
    """
    wrong = [f"{name} by {error:.1e}" for name, error in errors.items() if error > limit]
    if wrong:
        raise DataError(f"{path}: not written, it differs from the network: {', '.join(wrong)} of the largest value")
