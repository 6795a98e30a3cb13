"""Tokens that candidate elimination left: their index, checked; back to their places, and taken from them."""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill._transforms import has_values, savable
from mmdistill.errors import ShapeError, check_device


def check_index(side: str, index: object, size: int, like: Tensor, like_side: str) -> int:
    """Return how many of a part's ``size`` tokens an index ``(B, n)`` keeps; refuse what is no such index."""
    if not isinstance(index, Tensor):
        got = type(index).__name__
        raise ShapeError("TokenLayout", side, "type", expected="a tensor (B, n), or None", got=got)
    if index.ndim != 2:
        raise ShapeError("TokenLayout", side, "axes", expected="2 (B, n)", got=tuple(index.shape))
    if index.dtype != torch.int64:
        expected = f"{torch.int64}, such as index.long()"
        raise ShapeError("TokenLayout", side, "dtype", expected=expected, got=index.dtype)
    if index.shape[0] != like.shape[0]:
        expected = f"{like.shape[0]} as {like_side}"
        raise ShapeError("TokenLayout", side, "batch", expected=expected, got=index.shape[0])
    if index.shape[1] == 0:
        raise ShapeError("TokenLayout", side, "tokens", expected="at least 1", got=0)
    if index.shape[1] > size:
        raise ShapeError("TokenLayout", side, "tokens", expected=f"at most {size}", got=index.shape[1])
    check_device("TokenLayout", side, index, like, like_side)
    return index.shape[1]


def scatter_kept(side: str, tokens: Tensor, index: Tensor, size: int, *, check_values: bool) -> tuple[Tensor, Tensor]:
    """Return all ``size`` tokens of a part, zero where dropped, and which of them are there.

    Args:
        side: what an error calls the index.
        tokens: those left, ``(B, n, C)``.
        index: the place of each, ``(B, n)``.
        size: how many the whole part has.
        check_values: whether to read the index.

    Returns:
        ``(B, size, C)`` and ``(B, size)``.
    """
    _check_numbers(side, index, size, check_values)
    index = savable(index)
    batch, _, channels = tokens.shape
    # Not in place: a transform's batch of tokens would not fit into zeros that are no batch.
    whole = tokens.new_zeros(batch, size, channels).scatter(1, _per_channel(index, channels), tokens)
    ones = torch.ones_like(index, dtype=torch.bool)
    return whole, torch.zeros_like(index[:, :1], dtype=torch.bool).expand(-1, size).scatter(1, index, ones)


def gather_kept(side: str, tokens: Tensor, index: Tensor, *, check_values: bool) -> Tensor:
    """Return the tokens left ``(B, n, C)`` of all of a part's ``(B, size, C)``, in the index's order."""
    _check_numbers(side, index, tokens.shape[1], check_values)
    return tokens.gather(1, _per_channel(savable(index), tokens.shape[2]))


def _per_channel(index: Tensor, channels: int) -> Tensor:
    return index[:, :, None].expand(-1, -1, channels)


def _check_numbers(side: str, index: Tensor, size: int, check_values: bool) -> None:
    """Refuse places outside the part and doubled ones, which would overwrite each other; one read."""
    if not check_values or not has_values([index]):
        return
    places = index.sort(dim=1).values
    doubled = places[:, 1:] == places[:, :-1]
    if not bool((places[:, 0] < 0).any() | (places[:, -1] >= size).any() | doubled.any()):
        return
    outside = places[(places < 0) | (places >= size)]
    if outside.numel():
        expected, got = f"from 0 to {size - 1}", int(outside[0])
    else:
        expected, got = "each token once", f"{int(places[:, 1:][doubled][0])} twice"  # type: ignore[assignment]
    raise ShapeError("TokenLayout", side, "values", expected=expected, got=got)
