"""Every loss and block is exported by PyTorch; the blocks, which go where the student goes, to ONNX as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from harness.case import Case, Sizes, named
from harness.cases import BLOCKS, CASES, over
from torch import Tensor, nn

from mmdistill import ABF, ABFChain, MPSDFusion

pytestmark = pytest.mark.filterwarnings("ignore")

# No two axes have one length, lest the exporter take them for the same; the batch alone is left open.
FIRST = Sizes(batch=5, height=14, width=22, student=4, teacher=6)
SECOND = replace(FIRST, batch=9)


class Flat(nn.Module):
    """The module as tensors in a row to tensors in a row, which is what exported files know."""

    def __init__(self, case: Case, module: nn.Module) -> None:
        super().__init__()
        self.case, self.module = case, module

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        outcome = self.case.call(self.module, dict(zip(self.case.inputs, values, strict=True)))
        return tuple(named(outcome).values())


@over(CASES, *({case.subject for case in BLOCKS} - {ABF, MPSDFusion}))
def test_the_exported_program_gives_the_same(case: Case) -> None:
    flat = Flat(case, case.module(FIRST))
    exported = torch.export.export(flat, _given(case, FIRST), dynamic_shapes=(_batch(case),)).module()
    for sizes in (FIRST, SECOND):
        values = _given(case, sizes)
        torch.testing.assert_close(exported(*values), flat(*values), rtol=1e-9, atol=1e-12)


@over(BLOCKS)
@pytest.mark.slow
def test_onnx_runtime_gives_the_same(case: Case, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the file")
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the file")
    if case.subject in (ABF, ABFChain) and torch.__version__ < "2.7":
        pytest.skip("the ONNX exporter of PyTorch 2.6 cannot convert their batch norm")
    flat = Flat(case, case.module(FIRST, torch.float32))
    path = tmp_path / "block.onnx"
    torch.onnx.export(
        flat, _given(case, FIRST, torch.float32), path, dynamo=True, verbose=False, dynamic_shapes=(_batch(case),)
    )
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    for sizes in (FIRST, SECOND):
        values = _given(case, sizes, torch.float32)
        got = session.run(None, dict(zip(names, (value.numpy() for value in values), strict=True)))
        for mine, theirs in zip(got, flat(*values), strict=True):
            torch.testing.assert_close(torch.from_numpy(mine), theirs, rtol=1e-5, atol=1e-5)


def _given(case: Case, sizes: Sizes, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    return tuple(values.detach() for values in case.tensors(sizes, dtype).values())


def _batch(case: Case) -> tuple[dict[int, torch.export.Dim], ...]:
    batch = torch.export.Dim("batch", min=2, max=1024)
    axes = [given.axes.split() for given in case.inputs.values()]
    return tuple({letters.index("B"): batch} if "B" in letters else {} for letters in axes)
