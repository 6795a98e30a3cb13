"""What a branch sees of a batch of pairs: one modality, or both mixed."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill._contracts import check_pair, check_same_shape, check_scores
from mmdistill.pair import Pair

Seen = Literal["rgb", "tir", "rgb-tir", "tir-rgb"]
"""One modality, or both: which first, or on the left."""


def mix(
    pair: Pair[Tensor], seen: Seen, *, layout: Literal["halves", "side-by-side"] = "halves", dim: int = 0
) -> Tensor:
    """Return what a branch sees of a batch of pairs.

    ``"rgb"`` and ``"tir"`` are that member. The mixed two come in the paper's two readings:

    - ``"halves"``: ``"rgb-tir"`` is RGB in the first half of the batch and TIR in the second, ``"tir-rgb"`` the other
      way round. Of an odd batch the middle sample goes with the first half; a batch of one is all first half, and mixes
      nothing. One branch's ``"rgb-tir"`` and the other's ``"tir-rgb"`` so show each sample once in either modality. Not
      only images are mixed so, but whatever belongs to one modality's samples, such as boxes in crops of its own.
    - ``"side-by-side"``: the two images joined along the width, the last axis. The joined image is twice as wide, and
      shows the target twice: boxes in the left half stay, those in the right half are to be moved by the width of one.

    Args:
        pair: the two modalities' ``(S, ...)``, of one shape, S samples along ``dim``.
        seen: what the branch is to see.
        layout: how both are mixed.
        dim: the batch axis, for ``"halves"``.

    Raises:
        ShapeError: the members differ in shape, or are empty.
        ValueError: an unknown ``seen`` or ``layout``.

    Example:
        >>> import torch
        >>> from mmdistill import Pair
        >>> from mmdistill.unsupervised import mix
        >>> pair = Pair(torch.tensor([1, 2, 3]), torch.tensor([-1, -2, -3]))
        >>> mix(pair, "rgb-tir"), mix(pair, "tir-rgb"), mix(pair, "tir-rgb", layout="side-by-side")
        (tensor([ 1,  2, -3]), tensor([-1, -2,  3]), tensor([-1, -2, -3,  1,  2,  3]))
    """
    check_pair("mix", "pair", pair)
    rgb, tir = pair
    check_scores("mix", "rgb", rgb, 1, "(S, ...)")
    check_same_shape("mix", "tir", tir, rgb, "rgb")
    _checks.one_of("mix", "layout", layout, ("halves", "side-by-side"))
    orders = {"rgb": (rgb,), "tir": (tir,), "rgb-tir": (rgb, tir), "tir-rgb": (tir, rgb)}
    _checks.one_of("mix", "seen", seen, orders)
    dim = _checks.whole("mix", "dim", dim, low=-rgb.ndim, high=rgb.ndim - 1)
    members = orders[seen]
    if len(members) == 1:
        return members[0]
    if layout == "side-by-side":
        return torch.cat(members, dim=-1)
    samples = rgb.shape[dim]
    half = (samples + 1) // 2
    return torch.cat([members[0].narrow(dim, 0, half), members[1].narrow(dim, half, samples - half)], dim=dim)
