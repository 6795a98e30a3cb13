"""Correlation of features with one target filter per sequence, and its transpose, as matrix products.

The product of filter and features is computed for all filter cells at once; its shifted copies are summed to the
scores. An even filter pads one more row and column at the end, so a 4x4 filter on 18x18 features gives 19x19 scores.

On a GPU ``F.fold`` and ``F.unfold`` launch one kernel per map, and convolutions may round to TF32. In ONNX ``F.fold``
is Col2Im, an operator that many runtimes lack.
"""

from __future__ import annotations

import torch.nn.functional as F
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
    frames, sequences, channels, height, width = features.shape
    rows, columns = filters.shape[-2:]
    single = filters.ndim == 4
    # Mirrored, because _sum_shifted adds cell (i, j) at +i, +j, and correlation needs it at -i, -j.
    mirrored = filters.flip(-2, -1) if single else filters.flip(-2, -1).transpose(0, 1)
    cells = mirrored.reshape(sequences, -1, channels, rows * columns).mT.reshape(sequences, -1, channels)
    products = cells @ features.flatten(-2)
    scores = _sum_shifted(products.reshape(-1, rows, columns, height, width))
    if single:
        return scores.reshape(frames, sequences, *scores.shape[1:])
    return scores.reshape(frames, sequences, -1, *scores.shape[1:]).movedim(2, 0)


def correlate_transposed(features: Tensor, residuals: Tensor, filter_size: tuple[int, int]) -> Tensor:
    """Return the gradient of ``correlate``'s scores with respect to the filters, ``(S, C, h, w)``.

    Args:
        features: ``(N, S, C, H, W)``.
        residuals: ``(N, S, H', W')``, the gradient at the scores.
        filter_size: h, w.
    """
    rows, columns = filter_size
    height, width = features.shape[-2:]
    above, left = _padding(rows, columns)
    padded = F.pad(residuals, (left, left, above, above))
    # Mirrored here, where the windows are copied anyway.
    windows = padded.unfold(-2, height, 1).unfold(-2, width, 1).flip(-4, -3).flatten(-2).flatten(-3, -2)
    # Summed over frames: concatenating all frames' positions would copy the features.
    gradient = (features.flatten(-2) @ windows.mT).sum(dim=0)
    return gradient.view(*gradient.shape[:2], rows, columns)


def score_size(feature_size: tuple[int, int], filter_size: tuple[int, int]) -> tuple[int, int]:
    """Return H', W' of the score map of features H, W and a filter h, w."""
    height, width = (f + 1 - k % 2 for f, k in zip(feature_size, filter_size, strict=True))
    return height, width


def _sum_shifted(products: Tensor) -> Tensor:
    """Return the sum over all cells (i, j) of their maps shifted by i rows and j columns, without the padding.

    The maps are padded with zeros and lie one after the other. Reading each with a length that is one element shorter
    shifts map number j by j elements, so a shift is a view and costs no copy.

    Args:
        products: ``(B, h, w, H, W)``.

    Returns:
        ``(B, H', W')``.
    """
    batch, rows, columns, height, width = products.shape
    line = width + columns - 1
    padded = F.pad(products.transpose(1, 2), (0, columns - 1, 0, rows)).flatten(1)
    size = (height + rows) * line
    shifted = padded[:, : columns * (rows * size - 1)].view(batch, columns, rows * size - 1)
    summed = shifted[..., : rows * (size - line)].sum(dim=1)
    above, left = _padding(rows, columns)
    score_rows, score_columns = score_size((height, width), (rows, columns))
    shifted = summed.view(batch, rows, size - line)
    scores = shifted[..., above * line : (above + score_rows) * line].sum(dim=1)
    return scores.view(batch, score_rows, line)[..., left : left + score_columns]


def _padding(rows: int, columns: int) -> tuple[int, int]:
    return (rows - 1) // 2, (columns - 1) // 2
