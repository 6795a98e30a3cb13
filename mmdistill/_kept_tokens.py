"""The tokens that candidate elimination left: checks their index, puts them back to their positions, gathers them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdistill._checks.shapes import check_device
from mmdistill._execution import as_normal_tensor, can_read_values
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair

Kept = Tensor | Mapping[str, Tensor | None] | None
"""Which tokens candidate elimination left: the index ``(B, n)`` of one part, or of several by name; None for all."""

LevelsKept = Kept | Sequence[Kept] | Pair[Kept | Sequence[Kept]]
"""``Kept`` of all levels alike, or one per level; or a ``Pair`` of these."""


class NotGiven:
    """Says that ``kept`` was not given, where None says that all tokens are there."""


NOT_GIVEN = NotGiven()


def index_by_part(
    where: str, kept: Kept | NotGiven, name: str | None, parts: Sequence[str], may_drop: Sequence[str]
) -> dict[str, Tensor]:
    """Return the index of each part that lost tokens, by name.

    Args:
        where: what an error begins with.
        kept: what the user gave.
        name: the part that a plain index is of; None for the only part that may drop.
        parts: the names of all parts.
        may_drop: the names of the parts that can lose tokens; none if the layout doesn't say.
    """
    if isinstance(kept, NotGiven):
        if may_drop:
            names = ", ".join(may_drop)
            raise ValueError(f"{where}: {names} may drop tokens; give kept=index, or kept=None where all are there")
        return {}
    if kept is None:
        return {}
    if not isinstance(kept, Mapping):
        if name is None and len(may_drop) != 1:
            raise ValueError(f"{where}: kept must be a mapping from part to index, such as {{'search': index}}")
        kept = {may_drop[0] if name is None else name: kept}
    allowed = may_drop or parts
    for part in kept:
        if part not in allowed:
            raise ValueError(f"{where}: kept: expected {' or '.join(allowed)}; got {part!r}")
    return {part: index for part, index in kept.items() if index is not None}


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
        index: the position of each, ``(B, n)``.
        size: how many the whole part has.
        check_values: whether to read the index.

    Returns:
        ``(B, size, C)`` and ``(B, size)``.
    """
    _check_index_values(side, index, size, check_values)
    index = as_normal_tensor(index)
    batch, _, channels = tokens.shape
    # Not in place: a transform's batch of tokens would not fit into zeros that are no batch.
    whole = tokens.new_zeros(batch, size, channels).scatter(1, _per_channel(index, channels), tokens)
    ones = torch.ones_like(index, dtype=torch.bool)
    return whole, torch.zeros_like(index[:, :1], dtype=torch.bool).expand(-1, size).scatter(1, index, ones)


def gather_kept(side: str, tokens: Tensor, index: Tensor, *, check_values: bool) -> Tensor:
    """Return the tokens left ``(B, n, C)`` of all of a part's ``(B, size, C)``, in the index's order."""
    _check_index_values(side, index, tokens.shape[1], check_values)
    return tokens.gather(1, _per_channel(as_normal_tensor(index), tokens.shape[2]))


def _per_channel(index: Tensor, channels: int) -> Tensor:
    return index[:, :, None].expand(-1, -1, channels)


def _check_index_values(side: str, index: Tensor, size: int, check_values: bool) -> None:
    """Refuse positions outside the part, and doubled ones: they would overwrite each other. One read."""
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


def count_with_hint(got: int, wanted: int, remedy: str) -> object:
    """Return a number of tokens, and what to do where tokens are missing."""
    if got > wanted:
        return got
    return f"{got}; does candidate elimination drop tokens? then say which are left: {remedy}"
