"""Fusion blocks: both modalities' maps of one level in, ``FusedPaths`` out.

``MPSDFusion`` is CMD eq. 4-6; the other blocks are the variants of CMD's Table 3, with the same interface.
"""

from mmdistill.fusion.mpsd import MPSDFusion, PathSelection, fusion_paths, path_entropy, path_selection, weighted_paths
from mmdistill.fusion.paths import FusedPaths, gated_sum, modality_gate, one_path
from mmdistill.fusion.table3 import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion

__all__ = [
    "ChannelAttentionFusion",
    "ConcatFusion",
    "FusedPaths",
    "MPSDFusion",
    "PathSelection",
    "SpatialAttentionFusion",
    "fusion_paths",
    "gated_sum",
    "modality_gate",
    "one_path",
    "path_entropy",
    "path_selection",
    "weighted_paths",
]
