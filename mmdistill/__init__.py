"""Cross-modal (RGB and thermal infrared) distillation losses and blocks for anyone's tracker."""

from mmdistill.alignment import ABF, ABFChain
from mmdistill.errors import DeadTermWarning, NotFiniteError, ShapeError, UnchangedParametersWarning, UnusedInputWarning
from mmdistill.fusion import FusedPaths, MPSDFusion, path_entropy, path_selection
from mmdistill.interaction import CEM, SEM
from mmdistill.losses import CMDLoss, HFRDLoss, MPSDLoss, SCFDLoss
from mmdistill.pair import Pair
from mmdistill.reach import dead_terms, reach
from mmdistill.taps import FeatureTaps, TapError, TapWarning
from mmdistill.terms import Terms
from mmdistill.tokens import TokenLayout, map_to_tokens, tokens_to_map
from mmdistill.unsupervised import BBEDistiller, TCLDistiller

__all__ = [
    "ABF",
    "CEM",
    "SEM",
    "ABFChain",
    "BBEDistiller",
    "CMDLoss",
    "DeadTermWarning",
    "FeatureTaps",
    "FusedPaths",
    "HFRDLoss",
    "MPSDFusion",
    "MPSDLoss",
    "NotFiniteError",
    "Pair",
    "SCFDLoss",
    "ShapeError",
    "TCLDistiller",
    "TapError",
    "TapWarning",
    "Terms",
    "TokenLayout",
    "UnchangedParametersWarning",
    "UnusedInputWarning",
    "dead_terms",
    "map_to_tokens",
    "path_entropy",
    "path_selection",
    "reach",
    "tokens_to_map",
]

__version__ = "0.1.0"
