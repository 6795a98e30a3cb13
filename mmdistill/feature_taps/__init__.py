"""Features of any nn.Module's layers, by layer name."""

from mmdistill.feature_taps.layers import TapError
from mmdistill.feature_taps.taps import FeatureTaps, TapWarning

__all__ = ["FeatureTaps", "TapError", "TapWarning"]
