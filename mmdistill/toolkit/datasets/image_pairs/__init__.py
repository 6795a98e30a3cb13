"""Aligned RGB-T still images without labels, however they lie on disk."""

from mmdistill.toolkit.datasets.image_pairs.opening import open_pairs
from mmdistill.toolkit.datasets.image_pairs.pairs import MIN_SIDE, Pairs

__all__ = ["MIN_SIDE", "Pairs", "open_pairs"]
