"""A captured function around the modes of PyTorch, and around the tracker's network; see ``test_cuda_graph.py``."""

from typing import Literal

import pytest
import torch
from harness.recorded_graphs import RecordedGraphs
from torch import Tensor, nn

from mmdistill import Pair
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.cuda_graph import CapturedFunction
from mmdistill.reference.tracking.target_model import target_model


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("inside", [False, True], ids=["around the call", "inside the function"])
def test_autocast_keeps_no_weight_that_a_replay_reads(inside: bool) -> None:
    layer, x = nn.Linear(8, 8), values(0, 3, 8)

    def function(x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=inside or torch.is_autocast_enabled("cpu")):
            return layer(x)

    captured = CapturedFunction(function, graphs=RecordedGraphs())
    with torch.autocast("cpu", torch.bfloat16, enabled=not inside):
        layer(x)  # autocast may now have the cast weight
        before = captured(x).clone()
        with torch.no_grad():
            layer.weight.mul_(-2)
        after = captured(x).clone()
    assert before.dtype == torch.bfloat16
    expected = function(x) if inside else layer.bfloat16()(x.bfloat16())
    torch.testing.assert_close(after, expected, rtol=0, atol=0)
    assert not torch.equal(before, after)


def test_gradients_may_be_taken_inside() -> None:
    weight = nn.Parameter(values(0, 3, 3))

    def uphill(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return x + torch.autograd.grad((x @ weight).tanh().sum(), x)[0]

    captured = CapturedFunction(uphill, graphs=RecordedGraphs())
    for seed in range(3):
        x = values(seed, 2, 3).requires_grad_()
        outputs = captured(x)
        torch.testing.assert_close(
            outputs.detach(), x.detach() + ((1 - (x @ weight).tanh() ** 2) @ weight.t()).detach()
        )


@pytest.mark.parametrize("ahead", [False, True])
def test_no_gradient_comes_out(ahead: bool) -> None:
    weight, x = nn.Parameter(torch.ones(2)), torch.ones(2, requires_grad=True)
    captured = CapturedFunction(lambda x: x * weight, graphs=RecordedGraphs())
    if ahead:
        captured.capture(x)
    assert not captured(x).requires_grad
    assert not captured.inputs[0].requires_grad


def test_calls_may_change_between_inference_mode_and_none() -> None:
    captured = CapturedFunction(lambda x: x + 1, graphs=RecordedGraphs())
    with torch.inference_mode():
        assert captured(torch.zeros(1)).item() == 1
    assert captured(torch.ones(1)).item() == 2


@pytest.mark.parametrize("classifier", ["dimp", "atom"])
def test_the_tracker_network_tracks_and_learns(classifier: Literal["dimp", "atom"]) -> None:
    torch.manual_seed(0)
    network = TrackerNetwork(NetworkSettings(classifier=classifier, width=8, crop_size=96)).eval()
    model = target_model(network)

    def features(crops: Pair[Tensor]) -> Tensor:
        return model.features(network.extract(crops).fused[1].unflatten(0, (4, 2)))

    with torch.no_grad():
        boxes, weights = torch.rand(4, 2, 4) * 20 + 30, torch.full((4, 2), 0.25)
        iterations = torch.tensor([2, 1])
        expected = model.learn(features(Pair(*torch.randn(2, 8, 3, 96, 96))), boxes, 1)
    state = type(expected)(*(values.clone() for values in expected))

    def step(crops: Pair[Tensor], boxes: Tensor, weights: Tensor) -> Tensor:
        samples = model.samples(state, features(crops))
        scores = model.score(state, samples)
        for values, improved in zip(state, model.improve(state, samples, boxes, weights, iterations, 2), strict=True):
            values.copy_(improved)
        return scores

    captured = CapturedFunction(step, state=state, graphs=RecordedGraphs())
    for _ in range(3):
        crops = Pair(*torch.randn(2, 8, 3, 96, 96))
        with torch.no_grad():
            samples = model.samples(expected, features(crops))
            scores = model.score(expected, samples)
            expected = model.improve(expected, samples, boxes, weights, iterations, 2)
        torch.testing.assert_close(captured(crops, boxes, weights), scores)
        torch.testing.assert_close(tuple(state), tuple(expected))
