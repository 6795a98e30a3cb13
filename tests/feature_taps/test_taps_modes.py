"""Taps under the modes of PyTorch, checkpointing, threads, other taps, and the transforms of torch.func."""

from __future__ import annotations

import threading

import pytest
import torch
import torch.nn.functional as F
from feature_taps.tapped import COMPILING, IMAGES, Residual, count_hooks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from mmdistill.feature_taps import FeatureTaps, TapError

pytestmark = COMPILING


def test_features_under_no_grad_and_inference_mode() -> None:
    model = Residual().eval()
    images = torch.randn(IMAGES)
    expected = model.by_hand(images)["norm"]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode, FeatureTaps(model, ["norm"]) as taps:
            model(images)
        assert not taps["norm"].requires_grad
        torch.testing.assert_close(taps["norm"], expected)


def test_features_under_autocast_keep_their_type() -> None:
    model = Residual()
    with torch.autocast("cpu", torch.bfloat16), FeatureTaps(model, ["stem"]) as taps:
        model(torch.randn(IMAGES))
    assert taps["stem"].dtype == torch.bfloat16


def test_features_without_values() -> None:
    model = Residual().to("meta")
    with FeatureTaps(model, ["norm"]) as taps:
        model(torch.randn(IMAGES, device="meta"))
    assert taps["norm"].shape == (2, 4, 8, 12)
    assert taps["norm"].is_meta
    with FakeTensorMode(), FeatureTaps(Residual(), ["norm"]) as taps:
        taps._model(torch.randn(IMAGES))
    assert taps["norm"].shape == (2, 4, 8, 12)


@pytest.mark.parametrize("backward_inside", [False, True])
def test_features_of_a_checkpointed_model(backward_inside: bool) -> None:
    model = Residual().double()
    images = torch.randn(IMAGES, dtype=torch.float64)
    wanted = torch.autograd.grad(model.by_hand(images)["norm"].square().sum(), model.stem.weight)
    with FeatureTaps(model, ["norm"]) as taps:
        checkpoint(model, images, use_reentrant=False)
        loss = taps["norm"].square().sum()
        got = torch.autograd.grad(loss, model.stem.weight) if backward_inside else None
    got = got or torch.autograd.grad(loss, model.stem.weight)
    torch.testing.assert_close(got, wanted)
    assert len(taps.calls("norm")) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_runs_again_is_no_second_call(reentrant: bool) -> None:
    model = Residual()
    with FeatureTaps(model, ["norm"]) as taps:
        for _ in range(2):
            checkpoint(model, torch.randn(IMAGES, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert len(taps.calls("norm")) == 2
    assert taps["norm"].requires_grad == (not reentrant)  # reentrant: it ran under no_grad, as PyTorch documents


def test_other_threads_are_not_listened_to() -> None:
    model = Residual()
    images = torch.randn(4, *IMAGES)
    results: list[FeatureTaps] = []

    def work(first: Tensor, second: Tensor) -> None:
        with FeatureTaps(model, ["norm"]) as taps:
            model(first)
            meeting.wait(timeout=30)
            model(second)
            meeting.wait(timeout=30)
        results.append(taps)

    meeting = threading.Barrier(2)
    model.eval()
    threads = [threading.Thread(target=work, args=pair) for pair in (images[:2], images[2:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [[model.by_hand(image)["norm"] for image in pair] for pair in (images[:2], images[2:])]
    if not torch.equal(results[0].calls("norm")[0], expected[0][0]):
        results.reverse()
    for taps, features in zip(results, expected, strict=True):
        torch.testing.assert_close(taps.calls("norm"), features)
    assert count_hooks(model) == 0
    assert "forward" not in model.norm.__dict__


def test_blocks_that_overlap_leave_nothing_behind() -> None:
    model = Residual()
    images = torch.randn(IMAGES)
    first, second = FeatureTaps(model, ["norm"]), FeatureTaps(model, ["norm", ""])
    first.__enter__()
    model(images)
    second.__enter__()
    model(images)
    first.__exit__(None)
    model(images)
    second.__exit__(None)
    assert [len(first.calls("norm")), len(second.calls("norm")), len(second.calls(""))] == [2, 2, 2]
    assert count_hooks(model) == 0
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_features_inside_functional_call_and_vmap() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    weights = {name: (value * 2).detach().requires_grad_() for name, value in model.named_parameters()}
    inputs = torch.randn(5, 2, 3)
    with FeatureTaps(model, ["0"]) as taps:
        functional_call(model, weights, (inputs[0],))
    (got,) = torch.autograd.grad(taps["0"].square().sum(), weights["0.bias"])
    torch.testing.assert_close(got, 2 * F.linear(inputs[0], weights["0.weight"], weights["0.bias"]).sum(dim=0))

    def tapped(one: Tensor) -> Tensor:
        with taps:
            model(one)
        return taps["0"]  # type: ignore[no-any-return]

    torch.testing.assert_close(torch.vmap(tapped)(inputs), model[0](inputs))
    with pytest.raises(TapError, match=r"'0' ran inside torch.vmap; read it there"):
        taps["0"]
