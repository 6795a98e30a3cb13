"""Two processes with half the batch each get the value and the gradient of one process with the whole."""

from __future__ import annotations

import pytest
import torch
from harness.case import Case
from harness.cases import every_case
from harness.ranks import JOINED, RANKS, SEARCHES, start
from harness.tracker import FIND_UNUSED, WRAPPINGS, Wrapping, alone
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
@pytest.mark.slow
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


@pytest.mark.parametrize("wrapping", WRAPPINGS, ids=[wrapping.name for wrapping in WRAPPINGS])
@pytest.mark.slow
def test_a_tracker_with_taps_learns_the_same_in_every_wrapping(wrapping: Wrapping, ranks: list[Result]) -> None:
    """The neck, which only a tap reaches, too; in the third step."""
    expected, gradients = alone(wrapping.parts)
    results = [result[wrapping.name] for result in ranks]
    totals = []
    for result in results:
        assert not isinstance(result, str), result
        totals.append(result["outputs"]["total"])
        assert result["gradients"].keys() == gradients.keys()
        for name, gradient in gradients.items():
            torch.testing.assert_close(result["gradients"][name], gradient, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(torch.stack(totals).mean(), expected, rtol=1e-9, atol=1e-12)
    assert bool(gradients["student.neck.weight"].any()) == ("scfd" in wrapping.parts)


@pytest.mark.slow
def test_what_only_a_tap_reaches_is_refused_by_the_search_for_unused_parameters(ranks: list[Result]) -> None:
    """So docs/losses.md says what to set instead; a PyTorch that takes it gives another text here."""
    results = [result[FIND_UNUSED.name] for result in ranks]
    assert all(isinstance(result, str) and "mark a variable ready only once" in result for result in results)


@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
@pytest.mark.slow
def test_a_wrapped_loss_that_nobody_trains_is_warned_of(wrapper: str, ranks: list[Result]) -> None:
    for result in ranks:
        for trained, number in ((True, 0), (False, 1)):
            found = result[f"watch {wrapper} {trained}"]
            assert not isinstance(found, str), found
            assert found["outputs"]["warnings"] == number
