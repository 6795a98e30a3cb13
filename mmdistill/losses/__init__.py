"""The losses: tensors in, ``Terms`` out. They own no network, move nothing between devices and log nothing."""

from mmdistill.losses.cmd import CMDLoss
from mmdistill.losses.fitnets import FitNetsLoss
from mmdistill.losses.hfrd import HFRDLoss
from mmdistill.losses.kd import KDLoss
from mmdistill.losses.modality_distillation import ModalityDistillationLoss
from mmdistill.losses.mpsd import MPSDLoss
from mmdistill.losses.review_kd import ReviewKDLoss
from mmdistill.losses.scfd import SCFDLoss

__all__ = [
    "CMDLoss",
    "FitNetsLoss",
    "HFRDLoss",
    "KDLoss",
    "MPSDLoss",
    "ModalityDistillationLoss",
    "ReviewKDLoss",
    "SCFDLoss",
]
