"""Conversion between a transformer's tokens ``(B, N, C)`` and feature maps ``(B, C, H, W)``.

The tokens of a grid are in row-major order, as patch embeddings make them. A map of tokens shares their memory, so its
layout is channels last.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import torch
from einops import rearrange
from torch import Tensor

from mmdistill import _kept_tokens as _kept
from mmdistill._checks.arguments import argument_error, check_bool, check_choice, check_int, check_sequence, short_repr
from mmdistill._checks.shapes import check_axes, check_device, check_levels, check_map
from mmdistill._kept_tokens import NOT_GIVEN, Kept, LevelsKept, NotGiven
from mmdistill._numerics import without_autocast
from mmdistill.errors import ShapeError
from mmdistill.pair import Pair

AXES = ("batch", "tokens", "channels")

ModalityTokens = Sequence[Tensor] | Mapping[str, Tensor]
"""One modality's levels of tokens ``(B, N, C)``: a sequence, shallow to deep, or a mapping from layer to tokens."""

TokenLevels = ModalityTokens | Pair[ModalityTokens]
LevelMaps = Pair[list[Tensor]]
"""Per modality and level, a map ``(B, C, H, W)`` or a mask ``(B, 1, H, W)``."""


def tokens_to_map(tokens: Tensor, size: tuple[int, int], *, start: int = 0) -> Tensor:
    """Return the map ``(B, C, H, W)`` of a sequence whose tokens from ``start`` to the end are a grid.

    The length must fit, so a forgotten class token is an error. If tokens follow the grid, or a sequence has several
    grids, use ``TokenLayout``.

    Args:
        tokens: ``(B, start + H * W, C)``.
        size: the grid's height and width in tokens.
        start: number of tokens before the grid.

    Raises:
        ShapeError: the tokens have another shape.
        ValueError: a size that is not ``(H, W)``, or a start below 0.

    Example:
        >>> import torch
        >>> from mmdistill.tokens import tokens_to_map
        >>> tuple(tokens_to_map(torch.zeros(2, 1 + 8 * 12, 192), (8, 12), start=1).shape)
        (2, 192, 8, 12)
    """
    if not torch.compiler.is_compiling():  # there the numbers may be symbolic
        start = check_int("tokens_to_map", "start", start, low=0)
        size = _check_size(size)
    height, width = size
    _check_tokens("tokens_to_map", "tokens", tokens)
    if tokens.shape[1] != start + height * width:
        expected = f"{start + height * width} ({start} before the grid + {height}x{width})"
        got = _kept.count_with_hint(tokens.shape[1], start + height * width, "TokenLayout.map and its kept=")
        raise ShapeError("tokens_to_map", "tokens", "tokens", expected=expected, got=got)
    return _grid(tokens[:, start:], size)


def map_to_tokens(features: Tensor) -> Tensor:
    """Return a map ``(B, C, H, W)`` as tokens ``(B, H * W, C)``, in row-major order.

    Raises:
        ShapeError: ``features`` is no map.

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
    """The layout of a sequence of tokens: its parts in order.

    Each keyword names a part: a grid as ``(H, W)``, or a number of tokens without a grid. In one-stream trackers,
    template and search area share a sequence, and sometimes both modalities do.

    **Candidate elimination.** OSTrack, ViPT and other trackers drop search tokens inside the network, often only after
    some epochs: 320 tokens become 244, 190, 153. A sequence shorter than the layout is refused, so such a run would
    fail at that epoch. Name the parts that can lose tokens: ``may_drop=("search",)``. Every method then requires
    ``kept`` from the first step on: the index ``(B, n)`` of the kept tokens, in their order in the sequence, or None
    if all are there.

    Args:
        may_drop: names of the parts that can lose tokens.
        check_values: whether ``map`` and ``join`` refuse positions outside the part and duplicates in ``kept``, by one
            small read per call. Inside ``torch.compile`` and the like nothing is read: PyTorch refuses positions
            outside, and duplicates stay unnoticed.
        **parts: the parts in the sequence's order, each a number of tokens or ``(H, W)``.

    Attributes:
        parts: each part's name and size, ``(n,)`` or ``(H, W)``, in order.

    Raises:
        ValueError: a part with no or too many tokens; the map of a part that is no grid; other parts to join; no
            ``kept`` in spite of ``may_drop``.
        ShapeError: a sequence, part or index of another shape than the layout's; an index with wrong values.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.tokens import TokenLayout
        >>> layout = TokenLayout(cls=1, template=(8, 8), search_rgb=(16, 16), search_tir=(16, 16))
        >>> tokens = torch.zeros(2, layout.count, 192)
        >>> levels = layout.maps([tokens], Pair("search_rgb", "search_tir"))
        >>> layout.count, tuple(levels.rgb[0].shape)
        (577, (2, 192, 16, 16))

        With candidate elimination, which kept three tokens of a row of four:

        >>> layout = TokenLayout(template=(1, 1), search=(1, 4), may_drop=("search",))
        >>> tokens = torch.tensor([[[9.0], [1.0], [2.0], [3.0]]])  # the template, then the kept search tokens
        >>> search, mask = layout.map(tokens, "search", kept=torch.tensor([[3, 0, 1]]))
        >>> search.flatten().tolist(), mask.flatten().tolist()
        ([2.0, 3.0, 0.0, 1.0], [True, True, False, True])
    """

    parts: tuple[tuple[str, tuple[int, ...]], ...]
    may_drop: tuple[str, ...]
    check_values: bool

    def __init__(
        self, *, may_drop: Sequence[str] = (), check_values: bool = True, **parts: int | Sequence[int]
    ) -> None:
        if not parts:
            raise ValueError("TokenLayout: expected at least one part, such as search=(16, 16), got none")
        object.__setattr__(self, "parts", tuple((name, _sides(name, part)) for name, part in parts.items()))
        if may_drop != ():

            def part_name(where: str, name: str, value: object) -> str:
                return str(check_choice(where, name, value, tuple(parts)))

            may_drop = check_sequence("TokenLayout", "may_drop", may_drop, part_name)
        object.__setattr__(self, "may_drop", tuple(may_drop))
        object.__setattr__(self, "check_values", check_bool("TokenLayout", "check_values", check_values))

    def __repr__(self) -> str:
        parts = [f"{name}={sides if len(sides) == 2 else sides[0]}" for name, sides in self.parts]
        parts += [f"may_drop={self.may_drop}"] if self.may_drop else []
        parts += [] if self.check_values else ["check_values=False"]
        return f"TokenLayout({', '.join(parts)})"

    @property
    def count(self) -> int:
        """Number of tokens of the whole sequence, with all tokens."""
        return sum(math.prod(sides) for _, sides in self.parts)

    def split(self, tokens: Tensor, *, kept: Kept | NotGiven = NOT_GIVEN) -> dict[str, Tensor]:
        """Return every part ``(B, n, C)`` of a sequence by name, as views; dropped tokens stay dropped.

        Args:
            tokens: ``(B, count, C)``, or fewer tokens with ``kept``.
            kept: a mapping from part to the index ``(B, n)`` of its kept tokens; a part with None, or left out, has all
                tokens. A plain index belongs to the only part in ``may_drop``.
        """
        return self._split("split", tokens, self._index("split", kept, None))

    @overload
    def map(self, tokens: Tensor, name: str) -> Tensor: ...

    @overload
    def map(self, tokens: Tensor, name: str, *, kept: Kept) -> tuple[Tensor, Tensor]: ...

    def map(self, tokens: Tensor, name: str, *, kept: Kept | NotGiven = NOT_GIVEN) -> Tensor | tuple[Tensor, Tensor]:
        """Return the map ``(B, C, H, W)`` of one grid in a sequence, a view; with ``kept`` the map and its mask.

        Args:
            tokens: ``(B, count, C)``, or fewer tokens with ``kept``.
            name: the grid.
            kept: the index ``(B, n)``, int64, of this grid's kept tokens. The grid's k-th token in the sequence belongs
                to row ``kept[:, k] // W``, column ``kept[:, k] % W`` of the whole grid. After a second elimination,
                ``first.gather(1, second)`` converts its positions among the first one's tokens. If other parts lost
                tokens too, a mapping from part to index. None if all tokens are there.

        Returns:
            Without ``kept``, the map. With ``kept``, even if None: the map, zero at dropped positions, and the mask
            ``(B, 1, H, W)``, true where a token is kept, as the losses take it. Gradient flows to the kept tokens.
        """
        grids = {part: sides for part, sides in self.parts if len(sides) == 2}
        if name not in grids:
            expected = " or ".join(grids) or "a layout with a grid"
            raise ValueError(f"TokenLayout: map: name: expected {expected}, got {name!r}")
        height, width = grids[name]
        indices = self._index("map", kept, name)
        piece = self._split("map", tokens, indices)[name]
        if isinstance(kept, NotGiven):
            return _grid(piece, (height, width))
        if name not in indices:
            return _grid(piece, (height, width)), piece.new_ones(piece.shape[0], 1, height, width, dtype=torch.bool)
        values, mask = _kept.scatter_kept(
            f"kept {name}", piece, indices[name], height * width, check_values=self.check_values
        )
        return _grid(values, (height, width)), rearrange(mask, "b (h w) -> b 1 h w", h=height)

    @overload
    def maps(self, levels: TokenLevels, name: str | Pair[str]) -> LevelMaps: ...

    @overload
    def maps(self, levels: TokenLevels, name: str | Pair[str], *, kept: LevelsKept) -> tuple[LevelMaps, LevelMaps]: ...

    def maps(
        self, levels: TokenLevels, name: str | Pair[str], *, kept: LevelsKept | NotGiven = NOT_GIVEN
    ) -> LevelMaps | tuple[LevelMaps, LevelMaps]:
        """Return ``map`` of every level of both modalities, as the losses take them; with ``kept`` the masks too.

        Args:
            levels: a ``Pair`` of the RGB and the TIR levels, as ``taps.pair()`` returns. If both modalities are in one
                sequence of tokens: the levels, or the taps.
            name: the grid, or a ``Pair`` of the RGB and the TIR grid.
            kept: as in ``map``, for all levels; or a sequence of one per level; or a ``Pair`` of either.
        """
        names = Pair(name, name) if isinstance(name, str) else Pair(*name)
        if not isinstance(levels, Pair) and names.rgb == names.tir:
            expected = "a Pair of levels, or a Pair of two grids as name"
            raise ValueError(f"TokenLayout: maps: expected {expected}, got {name!r} and {type(levels).__name__}")
        by_side: Pair[Any] = levels if isinstance(levels, Pair) else Pair(levels, levels)
        indices: Pair[Any] = kept if isinstance(kept, Pair) else Pair(kept, kept)
        sides = [self._maps(*side) for side in zip(by_side, names, indices, Pair._fields, strict=True)]
        if isinstance(kept, NotGiven):
            return Pair(*sides)
        maps, masks = (Pair(*([level[index] for level in side] for side in sides)) for index in (0, 1))
        return maps, masks

    def join(self, parts: Mapping[str, Tensor], *, kept: Kept | NotGiven = NOT_GIVEN) -> Tensor:
        """Return the sequence of all parts, in the layout's order.

        Args:
            parts: every part by name, as tokens ``(B, n, C)`` or, for grids, as a map ``(B, C, H, W)``. For a part in
                ``kept``, tokens are the kept ones, as from ``split``; a map is whole, and its kept tokens are used.
            kept: as in ``split``.
        """
        indices = self._index("join", kept, None)
        names = [name for name, _ in self.parts]
        if set(parts) != set(names):
            raise ValueError(f"TokenLayout: join: expected {', '.join(names)}, got {', '.join(parts) or 'none'}")
        pieces = [self._piece(name, parts[name], sides, indices.get(name)) for name, sides in self.parts]
        for name, piece in zip(names, pieces, strict=True):
            for axis in (0, 2):
                wanted = pieces[0].shape[axis]
                if piece.shape[axis] != wanted:
                    expected = f"{wanted} as {names[0]}"
                    raise ShapeError("TokenLayout", name, AXES[axis], expected=expected, got=piece.shape[axis])
            check_device("TokenLayout", name, piece, pieces[0], names[0])
        # Autocast to one half precision cannot concatenate the other.
        with without_autocast(pieces[0].device.type):
            return torch.cat(pieces, dim=1)

    def _maps(self, levels: ModalityTokens, name: str, kept: Any, side: str) -> list[Any]:
        """Return ``map`` of each level of one modality."""
        tokens = list(levels.values()) if isinstance(levels, Mapping) else levels
        check_levels("TokenLayout", side, tokens)
        indices = kept if isinstance(kept, list | tuple) else [kept] * len(tokens)
        if len(indices) != len(tokens):
            raise ShapeError("TokenLayout", f"kept {side}", "levels", expected=len(tokens), got=len(indices))
        return [self.map(level, name, kept=index) for level, index in zip(tokens, indices, strict=True)]

    def _index(self, method: str, kept: Kept | NotGiven, name: str | None) -> dict[str, Tensor]:
        """Return the index of each part that lost tokens, by name."""
        return _kept.index_by_part(
            f"TokenLayout: {method}", kept, name, [part for part, _ in self.parts], self.may_drop
        )

    def _split(self, method: str, tokens: Tensor, indices: Mapping[str, Tensor]) -> dict[str, Tensor]:
        _check_tokens("TokenLayout", "tokens", tokens)
        counts = {name: math.prod(sides) for name, sides in self.parts}
        for name, index in indices.items():
            counts[name] = _kept.check_index(f"kept {name}", index, counts[name], tokens, "tokens")
        count = sum(counts.values())
        if tokens.shape[1] != count:
            stated = " + ".join(
                f"{name} {counts[name]} kept of {_text(sides)}" if name in indices else f"{name} {_text(sides)}"
                for name, sides in self.parts
            )
            got: object = tokens.shape[1]
            others = [name for name in self.may_drop if name not in indices]
            if not indices:
                got = _kept.count_with_hint(tokens.shape[1], count, f"{method}(..., kept=index)")
            elif others and tokens.shape[1] < count:
                given = ", ".join(f"'{name}': index" for name in (*indices, *others))
                got = f"{tokens.shape[1]}; if {' or '.join(others)} lost tokens too, pass kept={{{given}}}"
            raise ShapeError("TokenLayout", "tokens", "tokens", expected=f"{count} ({stated})", got=got)
        pieces = torch.split(tokens, list(counts.values()), dim=1)
        return dict(zip(counts, pieces, strict=True))

    def _piece(self, name: str, values: Tensor, sides: tuple[int, ...], index: Tensor | None) -> Tensor:
        """Return one part's kept tokens, from tokens or a map; refuse other sizes than the layout's."""
        is_map = len(sides) == 2 and isinstance(values, Tensor) and values.ndim == 4
        if is_map:
            for axis, wanted, got in zip(("height", "width"), sides, values.shape[2:], strict=True):
                if got != wanted:
                    raise ShapeError("TokenLayout", name, axis, expected=wanted, got=got)
            values = map_to_tokens(values)
        _check_tokens("TokenLayout", name, values)
        if index is None:
            if values.shape[1] != math.prod(sides):
                raise ShapeError("TokenLayout", name, "tokens", expected=_text(sides), got=values.shape[1])
            return values
        count = _kept.check_index(f"kept {name}", index, math.prod(sides), values, name)
        if is_map:
            return _kept.gather_kept(f"kept {name}", values, index, check_values=self.check_values)
        if values.shape[1] != count:
            expected = f"{count} kept of {_text(sides)}"
            raise ShapeError("TokenLayout", name, "tokens", expected=expected, got=values.shape[1])
        return values


def _check_size(size: object) -> tuple[int, int]:
    sides = check_sequence("tokens_to_map", "size", size, check_int)
    if len(sides) != 2:
        raise argument_error("tokens_to_map", "size", "(H, W)", size)
    return sides[0], sides[1]


def _sides(name: str, part: int | Sequence[int]) -> tuple[int, ...]:
    sides = tuple(part) if isinstance(part, Sequence) and not isinstance(part, str) else (part,)
    if len(sides) not in (1, 2):
        raise ValueError(f"TokenLayout: {name}: expected a number of tokens or (H, W), got {short_repr(part)}")
    return tuple(check_int("TokenLayout", name, side) for side in sides)


def _text(sides: tuple[int, ...]) -> str:
    return "x".join(map(str, sides))


def _grid(tokens: Tensor, size: Sequence[int]) -> Tensor:
    return rearrange(tokens, "b (h w) c -> b c h w", h=size[0], w=size[1])


def _check_tokens(where: str, side: str, tokens: Tensor) -> None:
    check_axes(where, side, tokens, AXES)
