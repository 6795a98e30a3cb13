"""Candidate elimination's kept tokens: checks of their index, scattering them to their positions, gathering them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdistill._checks.arguments import argument_error
from mmdistill._checks.shapes import check_device
from mmdistill._execution import as_normal_tensor, can_read_values
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair

Kept = Tensor | Mapping[str, Tensor | None] | None
"""Index ``(B, n)`` of one part's kept tokens, or a mapping from part to index; None for all tokens."""

LevelsKept = Kept | Sequence[Kept] | Pair[Kept | Sequence[Kept]]
"""``Kept`` for all levels, or one per level; or a ``Pair`` of these."""


class NotGiven:
    """Type of the default of ``kept``; None means that all tokens are present."""


NOT_GIVEN = NotGiven()


def index_by_part(
    where: str, kept: Kept | NotGiven, name: str | None, parts: Sequence[str], may_drop: Sequence[str]
) -> dict[str, Tensor]:
    """Return the index of each part that lost tokens, by name.

    Args:
        where: the method, for errors.
        kept: the user's argument.
        name: the part of a plain index; None for the only part in ``may_drop``.
        parts: the names of all parts.
        may_drop: the names of the parts that can lose tokens; empty if the layout does not say.
    """
    if isinstance(kept, NotGiven):
        if may_drop:
            expected = f"an index for {', '.join(may_drop)}, or None if all tokens are there"
            raise ValueError(f"{where}: kept: expected {expected}, got neither")
        return {}
    if kept is None:
        return {}
    if not isinstance(kept, Mapping):
        if name is None and len(may_drop) != 1:
            raise argument_error(where, "kept", "a mapping from part to index, such as {'search': index}", kept)
        kept = {may_drop[0] if name is None else name: kept}
    allowed = may_drop or parts
    for part in kept:
        if part not in allowed:
            raise ValueError(f"{where}: kept: expected {' or '.join(allowed)}, got {part!r}")
    return {part: index for part, index in kept.items() if index is not None}


def check_index(side: str, index: object, size: int, like: Tensor, like_side: str) -> int:
    """Return n of an index ``(B, n)`` into a part's ``size`` tokens; refuse a wrong index."""
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
    """Return all tokens of a part, with zeros for dropped ones, and a mask of the kept ones.

    Args:
        side: the index's name in errors.
        tokens: the kept tokens, ``(B, n, C)``.
        index: their positions, ``(B, n)``.
        size: number of tokens of the whole part.
        check_values: whether to read and check the index.

    Returns:
        ``(B, size, C)`` and ``(B, size)``.
    """
    _check_index_values(side, index, size, check_values)
    index = as_normal_tensor(index)
    batch, _, channels = tokens.shape
    # Not in place, because under vmap the zeros have no batch axis.
    whole = tokens.new_zeros(batch, size, channels).scatter(1, _per_channel(index, channels), tokens)
    ones = torch.ones_like(index, dtype=torch.bool)
    return whole, torch.zeros_like(index[:, :1], dtype=torch.bool).expand(-1, size).scatter(1, index, ones)


def gather_kept(side: str, tokens: Tensor, index: Tensor, *, check_values: bool) -> Tensor:
    """Return the kept tokens ``(B, n, C)`` of a whole part ``(B, size, C)``, in the index's order."""
    _check_index_values(side, index, tokens.shape[1], check_values)
    return tokens.gather(1, _per_channel(as_normal_tensor(index), tokens.shape[2]))


def _per_channel(index: Tensor, channels: int) -> Tensor:
    return index[:, :, None].expand(-1, -1, channels)


def _check_index_values(side: str, index: Tensor, size: int, check_values: bool) -> None:
    """Refuse positions outside the part, and duplicates, which would overwrite each other; one read."""
    if not check_values or not can_read_values([index]):
        return
    positions = index.sort(dim=1).values
    doubled = positions[:, 1:] == positions[:, :-1]
    if not bool((positions[:, 0] < 0).any() | (positions[:, -1] >= size).any() | doubled.any()):
        return
    outside = positions[(positions < 0) | (positions >= size)]
    if outside.numel():
        expected, got = f"from 0 to {size - 1}", int(outside[0])
    else:
        expected, got = "each token once", f"{int(positions[:, 1:][doubled][0])} twice"  # type: ignore[assignment]
    raise ShapeError("TokenLayout", side, "values", expected=expected, got=got)


def count_with_hint(count: int, expected: int, remedy: str) -> object:
    """Return a number of tokens, with a hint if it is too small."""
    if count > expected:
        return count
    return f"{count}; if candidate elimination drops tokens, say which are kept: {remedy}"
