"""LSOTB-TIR: 120 TIR sequences.

Liu et al., LSOTB-TIR: A Large-Scale High-Diversity Thermal Infrared Object Tracking Benchmark, ACM MM 2020.
"""

from __future__ import annotations

from mmdistill.reference.data.benchmarks.attributes import file_per_sequence
from mmdistill.reference.data.benchmarks.layout import Layout, annotated_folders, annotations_only, tir_folders

LSOTB_TIR = Layout(
    "lsotb-tir",
    count=120,
    find=(tir_folders(sequences="sequences", annotations="anno"), annotated_folders, annotations_only),
    attributes=file_per_sequence("anno/att", "att"),
)
"""``sequences/<name>/img/``, ``anno/<name>.txt``, ``anno/att/<name>.txt`` with 16 flags."""
