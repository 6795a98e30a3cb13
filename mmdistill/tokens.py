"""Between a transformer's tokens ``(B, N, C)`` and feature maps ``(B, C, H, W)``: losses on maps serve ViT trackers.

Tokens of a grid stand row by row, as patch embeddings make them. A map made of tokens shares their memory, so it is
laid out channels last; all losses take that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from mmdistill import _checks
from mmdistill.errors import ShapeError, check_device, check_map, check_strided

AXES = ("batch", "tokens", "channels")


def tokens_to_map(tokens: Tensor, size: tuple[int, int], *, start: int = 0) -> Tensor:
    """Return the map ``(B, C, H, W)`` of a sequence whose tokens from ``start`` to the end are a grid.

    A class token that was forgotten is thus an error, not a shifted map. Where tokens follow the grid, or several
    grids share one sequence, use ``TokenLayout``.

    Args:
        tokens: ``(B, start + H * W, C)``.
        size: the grid's height and width in tokens; never guessed, because few search regions need be square.
        start: how many tokens come before the grid.

    Raises:
        ShapeError: no such sequence, or one of another length.
        ValueError: a size that is none, or a start below 0.

    Example:
        >>> import torch
        >>> from mmdistill.tokens import tokens_to_map
        >>> tuple(tokens_to_map(torch.zeros(2, 1 + 8 * 12, 192), (8, 12), start=1).shape)
        (2, 192, 8, 12)
    """
    if not torch.compiler.is_compiling():  # where the numbers may be symbols
        start = _checks.whole("tokens_to_map", "start", start, low=0)
        size = _checked_size(size)
    height, width = size
    _check_tokens("tokens_to_map", "tokens", tokens)
    if tokens.shape[1] != start + height * width:
        expected = f"{start + height * width} ({start} before the grid + {height}x{width})"
        raise ShapeError("tokens_to_map", "tokens", "tokens", expected=expected, got=tokens.shape[1])
    return _grid(tokens[:, start:], size)


def map_to_tokens(features: Tensor) -> Tensor:
    """Return a map ``(B, C, H, W)`` as tokens ``(B, H * W, C)``, row by row.

    Raises:
        ShapeError: it is no map.

    Example:
        >>> import torch
        >>> from mmdistill.tokens import map_to_tokens
        >>> tuple(map_to_tokens(torch.zeros(2, 192, 8, 12)).shape)
        (2, 96, 192)
    """
    check_map("map_to_tokens", "input", features, floating=False)
    return rearrange(features, "b c h w -> b (h w) c")


@dataclass(frozen=True, init=False, repr=False)
class TokenLayout:
    """What a sequence of tokens holds, part by part, in order.

    Each keyword names a part: a grid as ``(H, W)``, or a plain number of tokens that are no grid. In a one-stream
    tracker template and search region share the sequence, and maybe both modalities do.

    Args:
        **parts: the parts in the sequence's order, each a number of tokens or ``(H, W)``.

    Attributes:
        parts: each part's name and sides, ``(n,)`` or ``(H, W)``, in order.

    Raises:
        ValueError: a part of no or too many tokens, a map asked of what is no grid, or other parts to join.
        ShapeError: a sequence or part of another shape than the layout states.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tokens import TokenLayout
        >>> layout = TokenLayout(cls=1, template=(8, 8), search_rgb=(16, 16), search_tir=(16, 16))
        >>> tokens = torch.zeros(2, layout.count, 192)
        >>> search = Pair(layout.map(tokens, "search_rgb"), layout.map(tokens, "search_tir"))
        >>> layout.count, tuple(search.rgb.shape)
        (577, (2, 192, 16, 16))
    """

    parts: tuple[tuple[str, tuple[int, ...]], ...]

    def __init__(self, **parts: int | Sequence[int]) -> None:
        if not parts:
            raise ValueError("TokenLayout: expected at least one part, such as search=(16, 16), got none")
        object.__setattr__(self, "parts", tuple((name, _sides(name, part)) for name, part in parts.items()))

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={sides if len(sides) == 2 else sides[0]}" for name, sides in self.parts)
        return f"TokenLayout({parts})"

    @property
    def count(self) -> int:
        """How many tokens the whole sequence has."""
        return sum(math.prod(sides) for _, sides in self.parts)

    def split(self, tokens: Tensor) -> dict[str, Tensor]:
        """Return every part ``(B, n, C)`` of a sequence ``(B, count, C)`` by name; views, nothing is copied."""
        _check_tokens("TokenLayout", "tokens", tokens)
        if tokens.shape[1] != self.count:
            stated = " + ".join(f"{name} {_text(sides)}" for name, sides in self.parts)
            expected = f"{self.count} ({stated})"
            raise ShapeError("TokenLayout", "tokens", "tokens", expected=expected, got=tokens.shape[1])
        pieces = torch.split(tokens, [math.prod(sides) for _, sides in self.parts], dim=1)
        return {name: piece for (name, _), piece in zip(self.parts, pieces, strict=True)}

    def map(self, tokens: Tensor, name: str) -> Tensor:
        """Return the map ``(B, C, H, W)`` of one grid in a sequence ``(B, count, C)``, a view."""
        grids = {part: sides for part, sides in self.parts if len(sides) == 2}
        if name not in grids:
            raise ValueError(
                f"TokenLayout: map: expected a grid, {' or '.join(grids) or 'of which it has none'}; got {name!r}"
            )
        return _grid(self.split(tokens)[name], grids[name])

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Return the sequence ``(B, count, C)`` of its parts, in the layout's order whatever the mapping's.

        Args:
            parts: every part by name, as tokens ``(B, n, C)`` or, for grids, as a map ``(B, C, H, W)``.
        """
        names = [name for name, _ in self.parts]
        if set(parts) != set(names):
            raise ValueError(f"TokenLayout: join: expected {', '.join(names)}; got {', '.join(parts) or 'nothing'}")
        pieces = [_piece(name, parts[name], sides) for name, sides in self.parts]
        for name, piece in zip(names, pieces, strict=True):
            for axis in (0, 2):
                wanted = pieces[0].shape[axis]
                if piece.shape[axis] != wanted:
                    expected = f"{wanted} as {names[0]}"
                    raise ShapeError("TokenLayout", name, AXES[axis], expected=expected, got=piece.shape[axis])
            check_device("TokenLayout", name, piece, pieces[0], names[0])
        return torch.cat(pieces, dim=1)


def _checked_size(size: object) -> tuple[int, int]:
    sides = _checks.each("tokens_to_map", "size", size, _checks.whole)
    if len(sides) != 2:
        raise _checks.refuse("tokens_to_map", "size", "(H, W)", size)
    return sides[0], sides[1]


def _sides(name: str, part: int | Sequence[int]) -> tuple[int, ...]:
    sides = tuple(part) if isinstance(part, Sequence) and not isinstance(part, str) else (part,)
    if len(sides) not in (1, 2):
        raise ValueError(f"TokenLayout: {name}: expected a number of tokens or (H, W), got {_checks.shown(part)}")
    return tuple(_checks.whole("TokenLayout", name, side) for side in sides)


def _text(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def _grid(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return rearrange(tokens, "b (h w) c -> b c h w", h=size[0], w=size[1])


def _piece(name: str, values: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return one part as tokens, refused where it has not the stated sides."""
    if len(sides) == 2 and isinstance(values, Tensor) and values.ndim == 4:
        for axis, wanted, got in zip(("height", "width"), sides, values.shape[2:], strict=True):
            if got != wanted:
                raise ShapeError("TokenLayout", name, axis, expected=wanted, got=got)
        values = map_to_tokens(values)
    _check_tokens("TokenLayout", name, values)
    if values.shape[1] != math.prod(sides):
        raise ShapeError("TokenLayout", name, "tokens", expected=_text(sides), got=values.shape[1])
    return values


def _check_tokens(where: str, side: str, tokens: Tensor) -> None:
    if not isinstance(tokens, Tensor):
        raise ShapeError(where, side, "type", expected="a tensor (B, N, C)", got=type(tokens).__name__)
    if tokens.ndim != 3:
        raise ShapeError(where, side, "axes", expected="3 (B, N, C)", got=tuple(tokens.shape))
    for axis, size in zip(AXES, tokens.shape, strict=True):
        if size == 0:
            raise ShapeError(where, side, axis, expected="at least 1", got=0)
    check_strided(where, side, tokens)
