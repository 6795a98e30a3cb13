"""Patches: which regions of an unlabeled, aligned pair stand for a target."""

from mmdistill.unsupervised.patches.center import CenterArea
from mmdistill.unsupervised.patches.cut import cut_patches
from mmdistill.unsupervised.patches.detection import Detection, Detector
from mmdistill.unsupervised.patches.protocol import Patches
from mmdistill.unsupervised.patches.random_sampling import RandomSampling
from mmdistill.unsupervised.patches.saliency import SaliencyDetector
from mmdistill.unsupervised.patches.torchvision import TorchvisionDetector

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
