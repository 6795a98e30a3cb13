"""Fusing the two modalities of one level in the student: a pair of maps in, ``FusedPaths`` out.

CMD eq. 4-6 (``MPSDFusion``) and the variants of its Table 3, all made and called alike.
"""

from mmdistill.fusion.mpsd import MPSDFusion, PathSelection, fusion_paths, path_entropy, path_selection, weighted_paths
from mmdistill.fusion.paths import FusedPaths, check_fused_paths, gated_sum, modality_gate, one_path
from mmdistill.fusion.table3 import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion

__all__ = [
    "ChannelAttentionFusion",
    "ConcatFusion",
    "FusedPaths",
    "MPSDFusion",
    "PathSelection",
    "SpatialAttentionFusion",
    "check_fused_paths",
    "fusion_paths",
    "gated_sum",
    "modality_gate",
    "one_path",
    "path_entropy",
    "path_selection",
    "weighted_paths",
]
