"""Export of a tracker to ONNX files, in float32, float16 or int8, for runtimes without PyTorch.

- ``files``: ``write_files`` writes and checks all files of a network.
- ``graphs``: the functions that become files: the first frame, a tracked frame, and learning.
- ``graph_inputs``: their inputs, and random values of them.
- ``quantization``: int8, and the crops that calibrate it.
- ``runtime``: ``OnnxGraph`` runs a file with onnxruntime; errors relative to PyTorch.

The files hold everything but crops, the first frame's augmentation, random numbers, the memory, and the search area's
position and scale. ``examples/onnx_tracker.py`` does these with NumPy and OpenCV. ATOM's first frame needs an
eigendecomposition, which ONNX does not have: its file ends before the target model.
"""

from mmdistill.reference.export.files import ExportedFile, write_files
from mmdistill.reference.export.quantization import calibration_crops
from mmdistill.reference.export.runtime import OnnxGraph

__all__ = ["ExportedFile", "OnnxGraph", "calibration_crops", "write_files"]
