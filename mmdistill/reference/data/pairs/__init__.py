"""Aligned RGB-T still images without labels, however they lie on disk."""

from mmdistill.reference.data.pairs.opening import open_pairs
from mmdistill.reference.data.pairs.pairs import MIN_SIDE, Pairs

__all__ = ["MIN_SIDE", "Pairs", "open_pairs"]
