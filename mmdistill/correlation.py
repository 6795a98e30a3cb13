"""Correlation of features with one target filter per sequence, and its transpose, as matrix products.

The product of filter and features is computed for all filter cells at once; ``fold`` sums its shifted copies to the
scores. An even filter pads one more row and column at the end, so a 4x4 filter on 18x18 features gives 19x19 scores.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def correlate(features: Tensor, filters: Tensor) -> Tensor:
    """Return the scores of each sequence's filter, or of all its iterates, on the sequence's features.

    One batched matrix product scores all iterates, stacked per sequence; the features are read once and not copied.

    Args:
        features: ``(N, S, C, H, W)``, N frames of S sequences.
        filters: ``(S, C, h, w)``, one filter per sequence, or its iterates ``(I, S, C, h, w)``.

    Returns:
        ``(N, S, H', W')``, or ``(I, N, S, H', W')`` for iterates. ``H' = H + 1`` for an even h, ``H`` for an odd one;
        the width likewise.

    Example:
        >>> import torch
        >>> from mmdistill.correlation import correlate
        >>> correlate(torch.tensor([[[[[1.0, 2.0, 3.0]]]]]), torch.tensor([[[[0.0, 1.0, 10.0]]]]))
        tensor([[[[21., 32.,  3.]]]])
    """
    frames, _, _, height, width = features.shape
    rows, columns = filters.shape[-2:]
    iterates = filters if filters.ndim == 5 else filters[None]
    # Mirrored, because fold adds cell (i, j) of a block at +i, +j, and correlation needs it at -i, -j.
    cells = rearrange(iterates.flip(-2, -1), "i s c h w -> s (i h w) c")
    products = cells @ features.flatten(-2)
    scores = F.fold(  # the iterates are its channels
        products.flatten(0, 1),
        output_size=score_size((height, width), (rows, columns)),
        kernel_size=(rows, columns),
        padding=_fold_padding(rows, columns),
    )
    scores = rearrange(scores, "(n s) i h w -> i n s h w", n=frames)
    return scores if filters.ndim == 5 else scores[0]


def correlate_transposed(features: Tensor, residuals: Tensor, filter_size: tuple[int, int]) -> Tensor:
    """Return the gradient of ``correlate``'s scores with respect to the filters, ``(S, C, h, w)``.

    Args:
        features: ``(N, S, C, H, W)``.
        residuals: ``(N, S, H', W')``, the gradient at the scores.
        filter_size: h, w.
    """
    rows, columns = filter_size
    frames = features.shape[0]
    windows = F.unfold(residuals.flatten(0, 1)[:, None], filter_size, padding=_fold_padding(rows, columns))
    windows = rearrange(windows, "(n s) cells positions -> n s positions cells", n=frames)
    # Summed over frames: concatenating all frames' positions would copy the features.
    gradient = (features.flatten(-2) @ windows).sum(dim=0)
    return rearrange(gradient, "s c (h w) -> s c h w", h=rows).flip(-2, -1)


def score_size(feature_size: tuple[int, int], filter_size: tuple[int, int]) -> tuple[int, int]:
    """Return H', W' of the score map of features H, W and a filter h, w."""
    height, width = (f + 1 - k % 2 for f, k in zip(feature_size, filter_size, strict=True))
    return height, width


def _fold_padding(rows: int, columns: int) -> tuple[int, int]:
    return (rows - 1) // 2, (columns - 1) // 2
