"""PTB-TIR: 60 TIR sequences of pedestrians.

Liu et al., PTB-TIR: A Thermal Infrared Pedestrian Tracking Benchmark, TMM 2020.
"""

from __future__ import annotations

from mmdistill.reference.data.benchmarks.attributes import file_per_sequence
from mmdistill.reference.data.benchmarks.layout import Layout, annotated_folders, annotations_only, tir_folders

PTB_TIR = Layout(
    "ptb-tir",
    count=60,
    find=(tir_folders(sequences="tirsequences", annotations="tiranno"), annotated_folders, annotations_only),
    attributes=file_per_sequence("tiranno/att", "att"),
)
"""``tirsequences/<name>/img/``, ``tiranno/<name>.txt``, ``tiranno/att/<name>.txt`` with 10 flags."""
