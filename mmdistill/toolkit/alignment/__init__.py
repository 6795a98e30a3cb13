"""Aligns two cameras: from point pairs, or from frame pairs by what RGB and TIR share.

Example::

    from mmdistill.toolkit.alignment import read_alignment

    alignment = read_alignment("alignment.json")
    in_rgb_frame = alignment.warp(tir)  # (H, W, 3)
    covered = alignment.mask  # (H, W)
"""

from mmdistill.toolkit.alignment.alignment import Alignment, read_alignment, write_alignment
from mmdistill.toolkit.alignment.estimation import align_automatically
from mmdistill.toolkit.alignment.points import describe_residuals, fit_points, read_points

__all__ = [
    "Alignment",
    "align_automatically",
    "describe_residuals",
    "fit_points",
    "read_alignment",
    "read_points",
    "write_alignment",
]
