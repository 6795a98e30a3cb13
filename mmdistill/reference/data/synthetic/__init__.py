"""Seeded synthetic RGB-T video that needs no download: made of noise, or of real unlabelled pairs."""

from mmdistill.reference.data.synthetic.from_pairs import PairTextures
from mmdistill.reference.data.synthetic.procedural import ProceduralTextures
from mmdistill.reference.data.synthetic.settings import SyntheticSettings
from mmdistill.reference.data.synthetic.textures import Cutout, TextureSource
from mmdistill.reference.data.synthetic.video import SyntheticSequence, synthetic_sequences

__all__ = [
    "Cutout",
    "PairTextures",
    "ProceduralTextures",
    "SyntheticSequence",
    "SyntheticSettings",
    "TextureSource",
    "synthetic_sequences",
]
