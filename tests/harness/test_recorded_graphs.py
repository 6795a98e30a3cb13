"""The stand-in for CUDA graphs: a replay computes what the function computes, and a capture computes nothing."""

from collections.abc import Callable

import pytest
import torch
from harness.recorded_graphs import RecordedGraphs
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

Operation = Callable[[Tensor], Tensor]

# Each maps (4, 4) to (4, 4), finite values to finite values.
OPERATIONS: dict[str, Operation] = {
    "new": lambda x: x.tanh() + 1,
    "view": lambda x: x.t(),
    "in place": lambda x: x.mul_(0.5),
    "in place through a view": lambda x: (x[1:].neg_(), x)[1],
    "of a view's own shape": lambda x: x.clone().unsqueeze_(0).transpose_(1, 2).squeeze_(0),
    "parts": lambda x: torch.cat([x.split(1)[3], *x.unbind()[0][None].chunk(1), x[1:3]]),
    "two outputs": lambda x: x.topk(4, dim=1)[0] - x.sort(dim=0)[1],
    "indexed": lambda x: x[torch.arange(3, -1, -1)],
    "written at an index": lambda x: x.index_put((torch.zeros(1, dtype=torch.long),), x[3:]),
    "written where masked": lambda x: torch.where(x > 0, x, 0.25),
    "out": lambda x: torch.add(x, 1, out=torch.empty(4, 4)),
    "in a list": lambda x: (torch._foreach_add_([x[0], x[2]], 1.0), x)[1],
    "filled": lambda x: x.masked_fill_(x < 0, -0.5),
    "set": lambda x: (x.__setitem__(2, 0.5), x)[1],
    "copied": lambda x: x.to(torch.float64).to(torch.float32),
    "matrix": lambda x: torch.addmm(x, x.tanh(), torch.eye(4)),
}


def captured(
    graphs: RecordedGraphs, function: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Callable[[], None], Tensor]:
    graph = graphs.CUDAGraph()
    with graphs.graph(graph):
        output = function(x)
    return graph.replay, output


@given(st.lists(st.sampled_from(sorted(OPERATIONS)), min_size=1, max_size=6), st.integers(0, 2**16))
def test_a_replay_gives_what_the_function_gives(names: list[str], seed: int) -> None:
    def function(x: Tensor) -> Tensor:
        for name in names:
            x = OPERATIONS[name](x)
        return x

    generator = torch.Generator().manual_seed(seed)
    buffer = torch.randn(4, 4, generator=generator)
    before = buffer.clone()
    replay, output = captured(RecordedGraphs(), function, buffer)
    torch.testing.assert_close(buffer, before, rtol=0, atol=0)
    for _ in range(3):
        values = torch.randn(4, 4, generator=generator)
        expected_buffer = values.clone()
        expected = function(expected_buffer)
        buffer.copy_(values)
        replay()
        torch.testing.assert_close(output, expected, rtol=0, atol=0)
        torch.testing.assert_close(buffer, expected_buffer, rtol=0, atol=0)


def test_a_network_and_its_gradient_are_recorded() -> None:
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64, 3),
    ]
    network = nn.Sequential(*layers).eval()

    def gradient(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(network(x).square().sum(), x)[0]

    buffer = torch.randn(2, 2, 8, 8)
    with torch.no_grad():
        replay, output = captured(RecordedGraphs(), gradient, buffer)
        for _ in range(2):
            buffer.copy_(torch.randn(2, 2, 8, 8))
            replay()
            torch.testing.assert_close(output, gradient(buffer))


def test_a_capture_computes_nothing() -> None:
    memory, buffer = torch.zeros(3), torch.ones(3)

    def function(x: Tensor) -> Tensor:
        memory.add_(x)
        memory[:2].mul_(2)
        return memory.clone()

    replay, output = captured(RecordedGraphs(), function, buffer)
    assert memory.tolist() == [0, 0, 0]
    assert output.isnan().all()
    replay()
    assert memory.tolist() == output.tolist() == [2, 2, 1]


def test_random_numbers_are_new_in_each_replay() -> None:
    replay, output = captured(RecordedGraphs(), lambda x: x + torch.rand(8), torch.zeros(8))
    replay()
    first = output.clone()
    replay()
    assert not torch.equal(output, first)


def test_a_replay_runs_no_code_of_the_function() -> None:
    calls = []
    replay, _ = captured(RecordedGraphs(), lambda x: (calls.append(1), x + 1)[1], torch.zeros(2))
    replay()
    assert calls == [1]


REFUSED: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "truth": lambda x: bool(x[0] > 0),
    "list": lambda x: x.tolist(),
    "numpy": lambda x: x.numpy(),
    "host": lambda x: x.cpu(),
    "equal": lambda x: torch.equal(x, x),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "write by mask": lambda x: x.__setitem__(x > 0, 1.0),
    "unique": lambda x: x.unique(),
    "tensor of a list": lambda x: x + torch.tensor([1.0, 2.0]),
    "index of a list": lambda x: x[[0, 1]],
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_gpu_refuses_is_refused(name: str) -> None:
    graphs, x = RecordedGraphs(), torch.ones(2)
    graph = graphs.CUDAGraph()

    def capture() -> None:
        with graphs.graph(graph):
            x.add_(1)
            REFUSED[name](x)

    with pytest.raises(RuntimeError, match="previous error during capture") as error:
        capture()
    assert "not permitted when stream is capturing" in str(error.value.__cause__)
    assert x.tolist() == [1, 1]
    assert not graphs.alive
    with pytest.raises(AssertionError, match="nothing is captured"):
        graph.replay()


def test_memory_is_that_of_a_graph_that_is_alive() -> None:
    graphs = RecordedGraphs()
    first = graphs.CUDAGraph()
    with graphs.graph(first):
        torch.ones(1)
    memory = first.pool()
    second = graphs.CUDAGraph()
    with graphs.graph(second, pool=memory):
        torch.ones(1)
    assert second.pool() is memory
    for graph in (first, second):
        graph.reset()
    with pytest.raises(AssertionError, match="memory that no graph has"), graphs.graph(graphs.CUDAGraph(), pool=memory):
        pass
