"""Export of a network to ONNX files, in float32 or int8, for onnxruntime without PyTorch.

- ``files``: ``write_files`` writes and checks all files of a network.
- ``graphs``: the parts of a network that become files.
- ``quantization``: int8, and the crops that calibrate it.
- ``runtime``: ``OnnxGraph`` runs a file with onnxruntime; errors relative to PyTorch.

The files hold all computations with weights: features, scores, the target filter's initializer and optimizer step, the
IoU of boxes and its gradient. The rest of a tracker is not exported: crops and their normalization, augmentation of the
first frame, the sample memory, localization on the score map, and the gradient step of boxes. ATOM's classifier has no
trained weights, so its files lack the filter's.
"""

from mmdistill.reference.export.files import ExportedFile, write_files
from mmdistill.reference.export.quantization import calibration_crops
from mmdistill.reference.export.runtime import OnnxGraph

__all__ = ["ExportedFile", "OnnxGraph", "calibration_crops", "write_files"]
