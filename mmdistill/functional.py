"""The mathematical functions of the library: tensors in, tensors out, no parameters.

They check nothing; the modules check their inputs, then call them.
"""

from mmdistill._abf_kernels import abf_attention
from mmdistill._numerics import hinge_residual, mean_squared_error, squared_error, squared_error_per_sample
from mmdistill.correlation import correlate
from mmdistill.fusion import fusion_paths, gated_sum, modality_gate, weighted_paths
from mmdistill.interaction import consistence_enhanced, interact, specific_enhanced
from mmdistill.losses.hfrd import corrected_response
from mmdistill.losses.kd import softened_divergence
from mmdistill.losses.modality_distillation import focal_weight, focused_squared_error
from mmdistill.losses.mpsd import selection_penalty
from mmdistill.losses.review_kd import hierarchical_context_error
from mmdistill.tir_cmd.boxes import box_state, intersection_over_union

__all__ = [
    "abf_attention",
    "box_state",
    "consistence_enhanced",
    "corrected_response",
    "correlate",
    "focal_weight",
    "focused_squared_error",
    "fusion_paths",
    "gated_sum",
    "hierarchical_context_error",
    "hinge_residual",
    "interact",
    "intersection_over_union",
    "mean_squared_error",
    "modality_gate",
    "selection_penalty",
    "softened_divergence",
    "specific_enhanced",
    "squared_error",
    "squared_error_per_sample",
    "weighted_paths",
]
