"""An ONNX file, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mmdistill.reference.errors import DataError
from mmdistill.reference.export.extra import import_extra

REMEDY = "session.x64quantprecision=1"
"""onnxruntime's session option against saturation on x86 processors without VNNI; without effect on others."""


class OnnxGraph:
    """A file's graph as a function of tensors, on the CPU.

    Args:
        path: the file.
        threads: how many work on one operation; 0 for as many as there are cores.

    Attributes:
        metadata: what the file says of itself.

    Raises:
        DataError: the file is missing or no ONNX file, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        runtime = import_extra("onnxruntime")
        if not Path(path).is_file():
            raise DataError(f"{path}: there is no such file")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors alone
        options.add_session_config_entry(*REMEDY.split("="))  # int8 files: the same values on every processor
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own classes, which share no other base
            raise DataError(f"{path}: onnxruntime can't load it ({str(error).splitlines()[0]})") from error
        self._inputs = [given.name for given in self._session.get_inputs()]
        self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the outputs of inputs, both in the file's order."""
        arrays = (value.detach().contiguous().numpy() for value in inputs)
        outputs = self._session.run(None, dict(zip(self._inputs, arrays, strict=True)))
        return tuple(torch.from_numpy(output) for output in outputs)
