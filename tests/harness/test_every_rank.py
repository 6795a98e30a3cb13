"""Two processes with half the batch each get the value and the gradient of one process with the whole."""

from __future__ import annotations

import pytest
import torch
from harness.case import Case
from harness.cases import every_case
from harness.ranks import JOINED, RANKS, SEARCHES, start
from torch import Tensor

Result = dict[str, dict[str, dict[str, Tensor]] | str]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """Each rank's results; the two processes are started once for all cases."""
    if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
        pytest.skip("this PyTorch is built without gloo")
    folder = tmp_path_factory.mktemp("ranks")
    start(folder)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


@every_case
@pytest.mark.parametrize("search", SEARCHES, ids=["", "find-unused"])
def test_two_processes_agree_with_one(case: Case, search: bool, ranks: list[Result]) -> None:
    """In evaluation mode: in training each process has batch-norm statistics of its own, without SyncBatchNorm."""
    results = []
    for result in ranks:
        found = result[f"{case.name} {search}"]
        assert not isinstance(found, str), found
        results.append(found)
    module, tensors = case.module(JOINED), case.tensors(JOINED)
    expected = case.step(module, tensors)

    for number, (name, value) in enumerate(expected.outputs.items()):
        parts = [result["outputs"][name] for result in results]
        if case.is_loss:
            got = torch.stack(parts).mean(dim=0)
        else:
            got = torch.cat(parts, dim=case.outputs[number].split().index("B"))
        torch.testing.assert_close(got, value, rtol=1e-9, atol=1e-12)

    for name, gradient in expected.gradients.items():
        parts = [result["gradients"][name] for result in results]
        if name in case.inputs:
            # Each rank's loss is the mean of its own samples; DDP averages the gradients of parameters alone.
            axis = case.inputs[name].axes.split().index("B")
            parts = [torch.cat(parts, dim=axis) / RANKS]
        for part in parts:
            torch.testing.assert_close(part, gradient, rtol=1e-9, atol=1e-12)
