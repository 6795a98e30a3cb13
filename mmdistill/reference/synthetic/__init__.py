"""Seeded synthetic RGB-T video that needs no download: made of noise, or of real unlabeled pairs."""

from mmdistill.reference.synthetic.settings import SyntheticSettings
from mmdistill.reference.synthetic.textures import Cutout, PairTextures, ProceduralTextures, TextureSource
from mmdistill.reference.synthetic.video import SyntheticSequence, synthetic_sequences

__all__ = [
    "Cutout",
    "PairTextures",
    "ProceduralTextures",
    "SyntheticSequence",
    "SyntheticSettings",
    "TextureSource",
    "synthetic_sequences",
]
