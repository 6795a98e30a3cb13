"""What an int8 file computes on x86 processors without VNNI, whose 8-bit products are summed in 16 bits.

AVX2 and AVX-512 without VNNI multiply unsigned activations by signed weights and add the products two by two. A sum
beyond 16 bits is cut to 32767 or -32768. Processors with VNNI add in 32 bits. The file is evaluated with such sums on
any processor, so the error on both kinds is known before the file is deployed.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mmdistill.reference.export.conversion import import_extra

MIN_SUM, MAX_SUM = -(2**15), 2**15 - 1
"""Of a sum in 16 bits."""

MAX_HELD = 2**22
"""How many sums are in memory at once."""

INSTRUCTIONS = ("avx512_vnni", "avx_vnni", "avx512bw", "avx2", "sse4_1", "asimddp")
"""Those of /proc/cpuinfo that decide how 8-bit products are summed, best first."""

_DOMAIN, _OPERATOR = "mmdistill", "Int8Convolution"


class Int8Graph:
    """An int8 file's graph as a function of tensors, with sums in 16 bits or without.

    Args:
        path: the file.
        saturating: whether sums of two products are cut to 16 bits.
    """

    def __init__(self, path: str | Path, *, saturating: bool) -> None:
        onnx, reference = import_extra("onnx"), import_extra("onnx.reference")
        model = onnx.load(path)
        _replace_convolutions(model)
        for entry in model.opset_import:
            if not entry.domain:  # the evaluator lacks 18's quantization, which 19 has unchanged
                entry.version = max(entry.version, 19)
        model.opset_import.append(onnx.helper.make_opsetid(_DOMAIN, 1))
        self._names = [given.name for given in model.graph.input]
        own = [_operator(_DOMAIN, _OPERATOR, _convolution(saturating)), _operator("", "MaxPool", _pooled)]
        self._evaluator = reference.ReferenceEvaluator(model, new_ops=own)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of inputs, both in the file's order."""
        arrays = (value.detach().numpy() for value in inputs)
        outputs = self._evaluator.run(None, dict(zip(self._names, arrays, strict=True)))
        return tuple(torch.from_numpy(np.ascontiguousarray(output)) for output in outputs)


def _replace_convolutions(model: Any) -> None:
    """Let every convolution between 8-bit maps take the maps and their scales themselves."""
    sources = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        if node.op_type != "Conv" or not {node.input[0], node.input[1]} <= sources.keys():
            continue
        inputs = [*sources[node.input[0]].input, *sources[node.input[1]].input, *node.input[2:]]
        del node.input[:]
        node.input.extend(inputs)
        node.op_type, node.domain = _OPERATOR, _DOMAIN
        kept = [each for each in node.attribute if each.name in ("pads", "strides", "dilations", "group")]
        del node.attribute[:]
        node.attribute.extend(kept)


def _operator(domain: str, name: str, function: Callable[..., Any]) -> Any:
    """Return the evaluator's class of an operator."""
    base = import_extra("onnx.reference.op_run").OpRun
    return type(name, (base,), {"op_domain": domain, "_run": lambda _, *given, **named: (function(*given, **named),)})


def _convolution(saturating: bool) -> Callable[..., Any]:
    """Return an 8-bit convolution as the evaluator calls it: arrays, then attributes."""

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


def _pooled(image: Any, kernel_shape: Sequence[int], pads: Sequence[int], strides: Sequence[int], **_: object) -> Any:
    """Return the largest values of windows; the evaluator's own takes most of the time."""
    top, left, bottom, right = pads
    padded = F.pad(torch.tensor(image), (left, right, top, bottom), value=-torch.inf)
    return F.max_pool2d(padded, tuple(kernel_shape), tuple(strides)).numpy()


def int8_sums(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], *, saturating: bool
) -> Tensor:
    """Return the integers that a convolution of 8-bit numbers sums up to.

    Args:
        image: padded, ``(batch, in, H, W)``, 0 to 255.
        weight: ``(out, in, kH, kW)``, -128 to 127.
        stride: of rows and columns.
        dilation: of rows and columns.
        saturating: whether each sum of two neighboring products, channels running fastest, is cut to 16 bits.

    Returns:
        ``(batch, out, H', W')`` of int64.
    """
    stride, dilation = tuple(stride), tuple(dilation)
    exact = F.conv2d(image.double(), weight.double(), stride=stride, dilation=dilation).long()  # whole below 2^53
    if not saturating:
        return exact
    count, _, height, width = exact.shape
    columns = F.unfold(image.float(), weight.shape[2:], dilation=dilation, stride=stride)
    columns = columns.view(count, weight.shape[1], -1, height * width).transpose(1, 2).flatten(1, 2)
    factors = weight.float().flatten(2).transpose(1, 2).flatten(1)
    for each, values in zip(exact, columns, strict=True):
        each += _cut_off(values, factors).view_as(each)
    return exact


def _cut_off(values: Tensor, factors: Tensor) -> Tensor:
    """Return what saturation adds to the products of ``(K, places)`` and ``(out, K)``: ``(out, places)``."""
    if len(values) % 2:
        values, factors = F.pad(values, (0, 0, 0, 1)), F.pad(factors, (0, 1))
    first, second, by_first, by_second = values[0::2], values[1::2], factors[:, 0::2], factors[:, 1::2]
    # Few pairs can reach the limits: those whose largest values do.
    most_first, most_second = first.amax(dim=1), second.amax(dim=1)
    highest = most_first * by_first.clamp(min=0) + most_second * by_second.clamp(min=0)
    lowest = most_first * by_first.clamp(max=0) + most_second * by_second.clamp(max=0)
    outputs, pairs = ((highest > MAX_SUM) | (lowest < MIN_SUM)).nonzero(as_tuple=True)
    total = torch.zeros(len(factors), values.shape[1], dtype=torch.float64)
    size = max(1, MAX_HELD // values.shape[1])
    for output, pair in zip(torch.split(outputs, size), torch.split(pairs, size), strict=True):
        sums = first[pair] * by_first[output, pair, None] + second[pair] * by_second[output, pair, None]
        total.index_add_(0, output, (sums.clamp(MIN_SUM, MAX_SUM) - sums).double())
    return total.long()


def instructions(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the best of ``INSTRUCTIONS`` that this machine has, or what it is called where it doesn't say."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            name, _, found = line.partition(":")
            if name.strip().lower() in ("flags", "features"):
                return next((each for each in INSTRUCTIONS if each in found.split()), platform.machine())
    return platform.machine()
