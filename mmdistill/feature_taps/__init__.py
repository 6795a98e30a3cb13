"""Features out of any nn.Module, by layer name."""

from mmdistill.feature_taps.layers import TapError
from mmdistill.feature_taps.taps import FeatureTaps, TapWarning

__all__ = ["FeatureTaps", "TapError", "TapWarning"]
