"""The attention of an ABF, CMD section 3.3: the weighted sum of this level and the deeper result."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from mmdistill._execution import has_tangent, in_transform, is_batched
from mmdistill._numerics import to_float32

BLOCK_BYTES = 2**20
"""Size of the blocks in which a map is processed; a block fits into a core's cache."""


def abf_attention(own: Tensor, deeper: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``own * a + deeper * b``, the deeper result resized (nearest) to this level.

    ``a`` and ``b`` are the two channels of ``sigmoid(convolution of [own, deeper])``. To save memory there is no
    concatenated and no resized map: the convolution's weight is split, and a position of the deeper result is used
    for all positions that it covers.

    Args:
        own: this level, ``(B, C, H, W)``; fastest in channels-last layout.
        deeper: the deeper level's carried map, ``(B, C, h, w)``.
        weight: the 1x1 convolution's weight, ``(2, 2C, 1, 1)``.
        bias: its bias, ``(2,)``.

    Returns:
        ``(B, C, H, W)``, channels last.
    """
    batch, _, height, width = own.shape
    deeper = deeper.to(own.dtype)
    if height % deeper.shape[2] or width % deeper.shape[3]:
        deeper = F.interpolate(deeper, size=(height, width), mode="nearest")
    h, w = deeper.shape[2:]
    # A strip is one row of the deeper result with the rows that it covers; strips are independent of each other.
    strips = rearrange(own, "b c (h fh) (w fw) -> (b h) fh w fw c", h=h, w=w)
    covering = rearrange(deeper, "b c h w -> (b h) 1 w 1 c")
    own_weight, deeper_weight = weight.flatten(1).chunk(2, dim=1)
    inputs = (strips, covering, own_weight, deeper_weight, bias)
    if _use_blocks(inputs):
        fused: Tensor = _BlockwiseAttention.apply(*(x.to(own.dtype) for x in inputs))  # type: ignore[no-untyped-call]
    else:
        fused = _attention(*inputs)
    return rearrange(fused, "(b h) fh w fw c -> b c (h fh) (w fw)", b=batch)


def _use_blocks(inputs: tuple[Tensor, ...]) -> bool:
    """Return whether to process blocks: on a CPU, without compiler, transform or forward-mode differentiation."""
    if inputs[0].device.type != "cpu" or torch.compiler.is_compiling() or in_transform():
        return False
    return not has_tangent(inputs)


def _attention(own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``abf_attention`` of strips ``(S, fh, w, fw, C)`` and the deeper rows over them, ``(S, 1, w, 1, C)``."""
    attention = torch.sigmoid(F.linear(own, own_weight, bias) + F.linear(deeper, deeper_weight))
    return own * attention[..., :1] + deeper * attention[..., 1:]


class _BlockwiseAttention(torch.autograd.Function):
    """``_attention`` block by block, forward and backward.

    On whole maps, each intermediate step would read and write main memory; a block stays in the cache. A gradient that
    is differentiated again (``create_graph=True``) or computed in a batch is computed on whole maps, with operations
    that autograd can differentiate.
    """

    @staticmethod
    def forward(
        ctx: Any, own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor
    ) -> Tensor:
        from_deeper = to_float32(F.linear(deeper, deeper_weight, bias))
        attention = own.new_empty((*own.shape[:-1], 2))
        fused = torch.empty_like(own, memory_format=torch.contiguous_format)
        for block in _blocks(own):
            torch.sigmoid_(logits := to_float32(F.linear(own[block], own_weight)) + from_deeper[block])
            attention[block] = logits
            a, b = attention[block].chunk(2, dim=-1)
            torch.mul(own[block], a, out=fused[block]).addcmul_(deeper[block], b)
        # The inputs themselves, so that a second derivative reaches them.
        ctx.save_for_backward(own, deeper, own_weight, deeper_weight, bias, attention)
        return fused

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        own, deeper, own_weight, deeper_weight, bias, attention = ctx.saved_tensors
        if torch.is_grad_enabled() or is_batched(gradient):
            return _gradients(gradient, own, deeper, own_weight, deeper_weight, bias)
        to_own = torch.empty_like(own, memory_format=torch.contiguous_format)
        to_deeper = torch.empty_like(deeper, memory_format=torch.contiguous_format)
        to_logits = to_float32(deeper.new_empty((*deeper.shape[:-1], 2)))
        to_own_weight = torch.zeros_like(to_float32(own_weight))
        for block in _blocks(own):
            upstream, own_block, deeper_block = gradient[block], own[block], deeper[block]
            a, b = attention[block].chunk(2, dim=-1)
            dots = [_dot(upstream, own_block), _dot(upstream, deeper_block)]
            wide = to_float32(attention[block])
            logits = torch.stack(dots, dim=-1) * wide * (1 - wide)
            to_logits[block] = _sum_covered(logits)
            flat = logits.to(own.dtype).flatten(0, -2)
            torch.mul(upstream, a, out=to_own[block]).flatten(0, -2).addmm_(flat, own_weight)
            to_own_weight += flat.t() @ own_block.flatten(0, -2)
            to_deeper[block] = _sum_covered(upstream * b)
        flat = to_logits.to(own.dtype).flatten(0, -2)
        to_deeper.flatten(0, -2).addmm_(flat, deeper_weight)
        to_deeper_weight = flat.t() @ deeper.flatten(0, -2)
        return to_own, to_deeper, to_own_weight, to_deeper_weight, to_logits.flatten(0, -2).sum(dim=0)


def _gradients(
    upstream: Tensor, own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of ``_attention``'s inputs, differentiable in the upstream gradient and the inputs."""
    attention = torch.sigmoid(F.linear(own, own_weight, bias) + F.linear(deeper, deeper_weight))
    a, b = attention.chunk(2, dim=-1)
    dots = torch.stack([_dot(upstream, own), _dot(upstream, deeper)], dim=-1)
    wide = to_float32(attention)
    logits = (dots * wide * (1 - wide)).to(own.dtype)
    covered = logits.sum(dim=(1, 3), keepdim=True)
    to_own = upstream * a + logits @ own_weight
    to_deeper = (upstream * b).sum(dim=(1, 3), keepdim=True) + covered @ deeper_weight
    # reshape, because flatten and slices of a whole axis do not support batched gradients.
    channels = own.shape[-1]
    to_own_weight = logits.reshape(-1, 2).t() @ own.reshape(-1, channels)
    flat = covered.reshape(-1, 2)
    to_deeper_weight = flat.t() @ deeper.reshape(-1, channels)
    return to_own, to_deeper, to_own_weight, to_deeper_weight, flat.sum(dim=0)


def _blocks(strips: Tensor) -> list[slice]:
    """Return slices of the leading axis, of about ``BLOCK_BYTES`` each."""
    step = max(1, BLOCK_BYTES // (strips[0].numel() * strips.element_size()))
    return [slice(start, start + step) for start in range(0, strips.shape[0], step)]


def _sum_covered(values: Tensor) -> Tensor:
    """Return the sum over axes 1 and 3, the positions under one deeper position; both axes stay, with length 1."""
    rows, columns = range(values.shape[1]), range(values.shape[3])
    # Slice by slice: on CPUs a sum over two axes that are not the last takes twenty times as long.
    return reduce(torch.add, [values[:, row : row + 1, :, column : column + 1] for row in rows for column in columns])


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the product's sum over the last axis, in float32 or wider."""
    product = first * second
    return product.sum(dim=-1, dtype=torch.promote_types(product.dtype, torch.float32))
