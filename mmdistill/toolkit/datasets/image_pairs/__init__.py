"""Aligned pairs of RGB and TIR images without labels."""

from mmdistill.toolkit.datasets.image_pairs.pair_search import NoPairsError, open_pairs
from mmdistill.toolkit.datasets.image_pairs.pairs import MIN_SIDE, Pairs

__all__ = ["MIN_SIDE", "NoPairsError", "Pairs", "open_pairs"]
