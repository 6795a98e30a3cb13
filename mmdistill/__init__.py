"""Cross-modal (RGB and thermal infrared) distillation losses and blocks for any tracker.

Names are imported at first use, so ``import mmdistill.toolkit`` does not load PyTorch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmdistill.abf import ABF, ABFChain
    from mmdistill.diagnostics import dead_terms, gradient_norms, gradient_shares
    from mmdistill.errors import (
        DeadTermWarning,
        NotFiniteError,
        ShapeError,
        UnchangedParametersWarning,
        UnusedInputWarning,
    )
    from mmdistill.feature_taps import FeatureTaps, TapError, TapWarning
    from mmdistill.fusion import FusedPaths, MPSDFusion, path_entropy, path_selection
    from mmdistill.interaction import CEM, SEM
    from mmdistill.losses import CMDLoss, HFRDLoss, MPSDLoss, SCFDLoss
    from mmdistill.pair import Pair
    from mmdistill.terms import Terms
    from mmdistill.tir_cmd import BBEDistiller, TCLDistiller
    from mmdistill.tokens import TokenLayout, map_to_tokens, tokens_to_map

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
    "gradient_norms",
    "gradient_shares",
    "map_to_tokens",
    "path_entropy",
    "path_selection",
    "tokens_to_map",
]

__version__ = "0.1.0"

# The names above by module, for the import at first use; a test compares the two.
_NAMES = {
    "abf": ("ABF", "ABFChain"),
    "diagnostics": ("dead_terms", "gradient_norms", "gradient_shares"),
    "errors": ("DeadTermWarning", "NotFiniteError", "ShapeError", "UnchangedParametersWarning", "UnusedInputWarning"),
    "feature_taps": ("FeatureTaps", "TapError", "TapWarning"),
    "fusion": ("FusedPaths", "MPSDFusion", "path_entropy", "path_selection"),
    "interaction": ("CEM", "SEM"),
    "losses": ("CMDLoss", "HFRDLoss", "MPSDLoss", "SCFDLoss"),
    "pair": ("Pair",),
    "terms": ("Terms",),
    "tir_cmd": ("BBEDistiller", "TCLDistiller"),
    "tokens": ("TokenLayout", "map_to_tokens", "tokens_to_map"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}
_MODULES = ("errors", "functional", "fusion", "losses", "resize", "tir_cmd", "tokens")


def __getattr__(name: str) -> object:
    if name in _MODULES:
        return import_module(f"mmdistill.{name}")
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'mmdistill' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"mmdistill.{_MODULE_OF[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
