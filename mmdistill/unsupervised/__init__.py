"""TIR-CMD: a two-branch tracker learns thermal infrared from RGB, on aligned pairs without labels.

Sun et al., "Unsupervised Cross-Modal Distillation for Thermal Infrared Tracking", ACM Multimedia 2021.
"""

from mmdistill.unsupervised.bbe import BBEDistiller
from mmdistill.unsupervised.mixing import mix
from mmdistill.unsupervised.patches import (
    CenterArea,
    Detection,
    Detector,
    Patches,
    RandomSampling,
    SaliencyDetector,
    TorchvisionDetector,
    cut_patches,
)
from mmdistill.unsupervised.settings import SETTINGS, BranchSetting, LearningRates, Origin
from mmdistill.unsupervised.tcl import TCLDistiller

__all__ = [
    "SETTINGS",
    "BBEDistiller",
    "BranchSetting",
    "CenterArea",
    "Detection",
    "Detector",
    "LearningRates",
    "Origin",
    "Patches",
    "RandomSampling",
    "SaliencyDetector",
    "TCLDistiller",
    "TorchvisionDetector",
    "cut_patches",
    "mix",
]
