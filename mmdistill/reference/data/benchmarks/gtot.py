"""GTOT: 50 sequences, a ground truth per modality.

Li et al., Learning Collaborative Sparse Representation for Grayscale-Thermal Tracking, TIP 2016.
"""

from __future__ import annotations

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.attributes import one_table
from mmdistill.reference.data.benchmarks.layout import Layout, paired_folders

ATTRIBUTES = ("OCC", "LSV", "FM", "LI", "TC", "SO", "DEF")
"""In the order in which the publication lists them; a table with other columns names them in its first row."""

GTOT = Layout(
    "gtot",
    count=50,
    find=(
        paired_folders(
            truths=("groundTruth_v.txt", "groundTruth_i.txt"),
            images=Pair(("v",), ("i",)),
            init="init.txt",
            corners=True,
        ),
    ),
    expects="<sequence>/groundTruth_v.txt and groundTruth_i.txt",
    attributes=one_table("sequencesAttr.txt", ATTRIBUTES, order="SequencesName.txt"),
    listed="SequencesName.txt",
)
"""``<name>/{v,i}/``, ``groundTruth_{v,i}.txt`` as x1 y1 x2 y2, ``init.txt`` as x y w h; ``sequencesAttr.txt``."""
