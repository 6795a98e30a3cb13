"""Cross-modal (RGB and thermal infrared) distillation losses and blocks for anyone's tracker."""

from mmdistill.alignment import ABF, ABFChain
from mmdistill.errors import DeadTermWarning, NotFiniteError, ShapeError
from mmdistill.fusion import FusedPaths, MPSDFusion
from mmdistill.interaction import CEM, SEM
from mmdistill.losses import CMDLoss, HFRDLoss, MPSDLoss, SCFDLoss
from mmdistill.pair import Pair
from mmdistill.terms import Terms

__all__ = [
    "ABF",
    "CEM",
    "SEM",
    "ABFChain",
    "CMDLoss",
    "DeadTermWarning",
    "FusedPaths",
    "HFRDLoss",
    "MPSDFusion",
    "MPSDLoss",
    "NotFiniteError",
    "Pair",
    "SCFDLoss",
    "ShapeError",
    "Terms",
]

__version__ = "0.1.0"
