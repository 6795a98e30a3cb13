"""Generates labeled RGB-T video from random seeds: from noise, or from real unlabeled pairs.

Example::

    from mmdistill.reference.synthetic import synthetic_sequences

    sequence = synthetic_sequences(1, seed=0)[0]
    rgb, tir = sequence.frame(0)  # (H, W, 3) uint8, RGB
    box = sequence.boxes[0]  # x y w h, pixels
"""

from mmdistill.reference.synthetic.pictures import PictureTextures
from mmdistill.reference.synthetic.scenes import SceneSettings, scene_sequences
from mmdistill.reference.synthetic.sequences import Length, SyntheticSequence, SyntheticSettings, synthetic_sequences
from mmdistill.reference.synthetic.textures import Foreground, PairTextures, ProceduralTextures, TextureSource

__all__ = [
    "Foreground",
    "Length",
    "PairTextures",
    "PictureTextures",
    "ProceduralTextures",
    "SceneSettings",
    "SyntheticSequence",
    "SyntheticSettings",
    "TextureSource",
    "scene_sequences",
    "synthetic_sequences",
]
