"""LSOTB-TIR: 120 TIR sequences for testing, and a training part in VOC XML.

Liu et al., LSOTB-TIR: A Large-Scale High-Diversity Thermal Infrared Object Tracking Benchmark, ACM MM 2020.
"""

from __future__ import annotations

from mmdistill.reference.data.benchmarks.attributes import file_per_sequence
from mmdistill.reference.data.benchmarks.layout import Layout, annotated_folders, annotations_only, tir_folders
from mmdistill.reference.data.benchmarks.voc_tracks import voc_track_folders

_TEST = (tir_folders(sequences="sequences", annotations="anno"), annotated_folders, annotations_only)

LSOTB_TIR = Layout("lsotb-tir", count=120, find=_TEST, attributes=file_per_sequence("anno/att", "att"))
"""``sequences/<name>/img/``, ``anno/<name>.txt``, ``anno/att/<name>.txt`` with 16 flags."""

LSOTB_TIR_TRAINING = Layout("lsotb-tir", count=None, find=(voc_track_folders, *_TEST), part="(train)")
"""``TIR_training_001/<name>/*.jpg``, ``Annotations/TIR_training_001/<name>/*.xml``; or as for testing."""
