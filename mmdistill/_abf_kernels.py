"""The weighing inside an ABF: this level and the deeper result, each by an attention map (CMD 3.3)."""

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
"""About how much of a map is worked on at a time: what a core's cache holds."""


def abf_attention(own: Tensor, deeper: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return ``own * a + deeper * b``, the deeper result resized (nearest) to this level.

    ``a`` and ``b`` are the two channels of ``sigmoid(convolution of [own, deeper])``. Neither the concatenation nor the
    resized map is ever made: the convolution's weight is split between the two, and a position of the deeper result
    is used for all positions that it covers.

    Args:
        own: this level, ``(B, C, H, W)``; quick where it is channels last.
        deeper: what the deeper level carried, ``(B, C, h, w)``.
        weight: of the 1x1 convolution, ``(2, 2C, 1, 1)``.
        bias: of the same, ``(2,)``.

    Returns:
        ``(B, C, H, W)``, channels last.
    """
    batch, _, height, width = own.shape
    deeper = deeper.to(own.dtype)
    if height % deeper.shape[2] or width % deeper.shape[3]:
        deeper = F.interpolate(deeper, size=(height, width), mode="nearest")
    h, w = deeper.shape[2:]
    # A strip is one row of the deeper result and all that it covers: no strip needs anything of another.
    strips = rearrange(own, "b c (h fh) (w fw) -> (b h) fh w fw c", h=h, w=w)
    covering = rearrange(deeper, "b c h w -> (b h) 1 w 1 c")
    own_weight, deeper_weight = weight.flatten(1).chunk(2, dim=1)
    given = (strips, covering, own_weight, deeper_weight, bias)
    if _by_cache(given):
        attended: Tensor = _AttendByCache.apply(*(x.to(own.dtype) for x in given))  # type: ignore[no-untyped-call]
    else:
        attended = _attend_strips(*given)
    return rearrange(attended, "(b h) fh w fw c -> b c (h fh) (w fw)", b=batch)


def _by_cache(given: tuple[Tensor, ...]) -> bool:
    """Whether to go block by block: on a CPU, where neither a compiler, a transform nor forward mode must see it."""
    if given[0].device.type != "cpu" or torch.compiler.is_compiling() or in_transform():
        return False
    return not has_tangent(given)


def _attend_strips(own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor) -> Tensor:
    """Return the same for strips ``(S, fh, w, fw, C)`` and what covers them, ``(S, 1, w, 1, C)``."""
    attention = torch.sigmoid(F.linear(own, own_weight, bias) + F.linear(deeper, deeper_weight))
    return own * attention[..., :1] + deeper * attention[..., 1:]


class _AttendByCache(torch.autograd.Function):
    """``_attend_strips`` block by block, forward and backward.

    Written out as whole maps, the steps between read and write main memory a dozen times; a block stays in the cache.
    Where the gradient is itself to be differentiated (``create_graph=True``), or taken in a batch, it is computed from
    whole maps, by operations that autograd knows.
    """

    @staticmethod
    def forward(
        ctx: Any, own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor
    ) -> Tensor:
        from_deeper = to_float32(F.linear(deeper, deeper_weight, bias))
        attention = own.new_empty((*own.shape[:-1], 2))
        attended = torch.empty_like(own, memory_format=torch.contiguous_format)
        for block in _blocks(own):
            torch.sigmoid_(logits := to_float32(F.linear(own[block], own_weight)) + from_deeper[block])
            attention[block] = logits
            a, b = attention[block].chunk(2, dim=-1)
            torch.mul(own[block], a, out=attended[block]).addcmul_(deeper[block], b)
        # The inputs as they came, so that a second derivative finds the way back to them.
        ctx.save_for_backward(own, deeper, own_weight, deeper_weight, bias, attention)
        return attended

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
            upstream, mine, covering = gradient[block], own[block], deeper[block]
            a, b = attention[block].chunk(2, dim=-1)
            shares = [_dot(upstream, mine), _dot(upstream, covering)]
            wide = to_float32(attention[block])
            logits = torch.stack(shares, dim=-1) * wide * (1 - wide)
            to_logits[block] = _sum_covered(logits)
            flat = logits.to(own.dtype).flatten(0, -2)
            torch.mul(upstream, a, out=to_own[block]).flatten(0, -2).addmm_(flat, own_weight)
            to_own_weight += flat.t() @ mine.flatten(0, -2)
            to_deeper[block] = _sum_covered(upstream * b)
        flat = to_logits.to(own.dtype).flatten(0, -2)
        to_deeper.flatten(0, -2).addmm_(flat, deeper_weight)
        to_deeper_weight = flat.t() @ deeper.flatten(0, -2)
        return to_own, to_deeper, to_own_weight, to_deeper_weight, to_logits.flatten(0, -2).sum(dim=0)


def _gradients(
    upstream: Tensor, own: Tensor, deeper: Tensor, own_weight: Tensor, deeper_weight: Tensor, bias: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients of ``_attend_strips``'s inputs, differentiable in the upstream gradient and the inputs."""
    attention = torch.sigmoid(F.linear(own, own_weight, bias) + F.linear(deeper, deeper_weight))
    a, b = attention.chunk(2, dim=-1)
    shares = torch.stack([_dot(upstream, own), _dot(upstream, deeper)], dim=-1)
    wide = to_float32(attention)
    logits = (shares * wide * (1 - wide)).to(own.dtype)
    covered = logits.sum(dim=(1, 3), keepdim=True)
    to_own = upstream * a + logits @ own_weight
    to_deeper = (upstream * b).sum(dim=(1, 3), keepdim=True) + covered @ deeper_weight
    # Not every operation takes gradients in a batch: reshape does, flatten and slices of a whole axis don't.
    channels = own.shape[-1]
    to_own_weight = logits.reshape(-1, 2).t() @ own.reshape(-1, channels)
    flat = covered.reshape(-1, 2)
    to_deeper_weight = flat.t() @ deeper.reshape(-1, channels)
    return to_own, to_deeper, to_own_weight, to_deeper_weight, flat.sum(dim=0)


def _blocks(strips: Tensor) -> list[slice]:
    """Return slices of the leading axis that hold about ``BLOCK_BYTES`` each."""
    step = max(1, BLOCK_BYTES // (strips[0].numel() * strips.element_size()))
    return [slice(start, start + step) for start in range(0, strips.shape[0], step)]


def _sum_covered(values: Tensor) -> Tensor:
    """Return the sum over what one position of the deeper result covers, axes 1 and 3, which stay with length 1."""
    rows, columns = range(values.shape[1]), range(values.shape[3])
    # One by one: a sum over two axes that are not the last takes CPUs twenty times as long.
    return reduce(torch.add, [values[:, row : row + 1, :, column : column + 1] for row in rows for column in columns])


def _dot(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum over the last axis of the product, in float32 at least."""
    product = first * second
    return product.sum(dim=-1, dtype=torch.promote_types(product.dtype, torch.float32))
