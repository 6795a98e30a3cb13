"""Features out of any nn.Module, by layer name."""

from mmdistill.taps.layers import TapError
from mmdistill.taps.taps import FeatureTaps, TapWarning

__all__ = ["FeatureTaps", "TapError", "TapWarning"]
