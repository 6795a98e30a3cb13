"""TIR-CMD: a two-branch tracker learns thermal infrared from RGB, on aligned pairs without labels.

Sun et al., "Unsupervised Cross-Modal Distillation for Thermal Infrared Tracking", ACM Multimedia 2021,
https://doi.org/10.1145/3474085.3475387, https://arxiv.org/abs/2108.00187.

Eq. 1, ``L = L_TCL + lambda L_BBE``, has no class of its own: ``Terms.weighted`` computes it.

    >>> import torch
    >>> from mmdistill import Terms
    >>> tcl = Terms.summed("tcl", classification=torch.tensor(0.5))  # from TCLDistiller, eq. 2
    >>> bbe = Terms.summed("bbe", box=torch.tensor(2.0))  # from BBEDistiller, eq. 3
    >>> Terms.weighted((1.0, tcl), (0.1, bbe)).total
    tensor(0.7000)
"""

from mmdistill.tir_cmd.bbe import BBEDistiller
from mmdistill.tir_cmd.detection import Detection, Detector, TorchvisionDetector
from mmdistill.tir_cmd.patch_samplers import CenterArea, Patches, RandomSampling, cut_patches
from mmdistill.tir_cmd.saliency import SaliencyDetector
from mmdistill.tir_cmd.settings import SETTINGS, BranchSetting, InitialWeights, LearningRates, mix
from mmdistill.tir_cmd.tcl import TCLDistiller

__all__ = [
    "SETTINGS",
    "BBEDistiller",
    "BranchSetting",
    "CenterArea",
    "Detection",
    "Detector",
    "InitialWeights",
    "LearningRates",
    "Patches",
    "RandomSampling",
    "SaliencyDetector",
    "TCLDistiller",
    "TorchvisionDetector",
    "cut_patches",
    "mix",
]
