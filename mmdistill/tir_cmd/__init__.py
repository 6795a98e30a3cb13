"""TIR-CMD: a two-branch tracker learns thermal infrared from RGB, on aligned pairs without labels.

Sun et al., "Unsupervised Cross-Modal Distillation for Thermal Infrared Tracking", ACM Multimedia 2021.

Patches: which regions of an unlabeled, aligned pair stand for a target.
"""

from mmdistill.tir_cmd.bbe import BBEDistiller
from mmdistill.tir_cmd.detection import Detection, Detector, TorchvisionDetector
from mmdistill.tir_cmd.patch_samplers import CenterArea, Patches, RandomSampling, cut_patches
from mmdistill.tir_cmd.saliency import SaliencyDetector
from mmdistill.tir_cmd.settings import SETTINGS, BranchSetting, InitialWeights, LearningRates, mix
from mmdistill.tir_cmd.tcl import TCLDistiller

__all__ = [
    "CenterArea",
    "Detection",
    "Detector",
    "Patches",
    "RandomSampling",
    "SaliencyDetector",
    "TorchvisionDetector",
    "cut_patches",
]


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
