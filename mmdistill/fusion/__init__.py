"""Fusing the two modalities of one level in the student: a pair of maps in, ``FusedPaths`` out.

CMD eq. 4-6 (``MPSDFusion``) and the variants of its Table 3, all made and called alike.
"""

from mmdistill.fusion.channel import ChannelAttentionFusion
from mmdistill.fusion.concat import ConcatFusion
from mmdistill.fusion.gate import gated_sum, modality_gate
from mmdistill.fusion.mpsd import MPSDFusion, fusion_paths, weighted_paths
from mmdistill.fusion.paths import FusedPaths, check_fused_paths, one_path
from mmdistill.fusion.selection import PathSelection, path_entropy, path_selection
from mmdistill.fusion.spatial import SpatialAttentionFusion

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
