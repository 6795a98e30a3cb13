"""VTUAV: a ground truth per modality, a box for every tenth frame.

Zhang et al., Visible-Thermal UAV Tracking: A Large-Scale Benchmark and New Baseline, CVPR 2022. Not compared with
the benchmark's own toolkit.
"""

from __future__ import annotations

from mmdistill.pair import Pair
from mmdistill.reference.data.benchmarks.layout import Layout, paired_folders

VTUAV = Layout(
    "vtuav",
    count=None,
    find=(
        paired_folders(
            truths=("rgb.txt", "ir.txt"),
            images=Pair(("rgb",), ("ir", "ir_gray")),
            init="init.txt",
            every=10,
        ),
    ),
    expects="<sequence>/rgb.txt and ir.txt",
)
"""``<name>/{rgb,ir}/`` (or ``ir_gray/``), ``{rgb,ir}.txt``."""
