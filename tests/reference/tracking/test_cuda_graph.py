"""A captured function is the function, in one replay; a stand-in records and replays on the CPU."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from harness.recorded_graphs import RecordedGraphs
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mmdistill import Pair
from mmdistill.reference.tracking.cuda_graph import WARM_UP_CALLS, CapturedFunction

RUNS_A_CAPTURE = WARM_UP_CALLS + 1


class Found(NamedTuple):
    boxes: Tensor
    scores: Pair[Tensor]


class Counted:
    """A function that counts its runs."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function, self.runs = function, 0

    def __call__(self, *inputs: Any) -> Any:
        self.runs += 1
        return self.function(*inputs)


class Memory:
    """A state: rows that are filled one by one, and their number; there is no row to spare."""

    def __init__(self, rows: int) -> None:
        self.rows, self.count, self.sum = torch.zeros(rows, 2), torch.zeros(1, dtype=torch.long), torch.zeros(2)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return self.rows, self.count, self.sum

    def add(self, x: Tensor) -> Tensor:
        self.rows.index_put_((self.count,), x[None])
        self.count += 1
        self.sum += x
        return self.rows.sum(0) / self.count


def add(x: Tensor, y: Tensor) -> Tensor:
    return x + y


def assert_equal(first: Any, second: Any) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def values(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_the_values_are_those_of_the_function_and_it_is_captured_once() -> None:
    graphs, function = RecordedGraphs(), Counted(lambda x, y: ((x @ y).relu() + x[:, :1], y.t().exp()))
    captured = CapturedFunction(function, graphs=graphs)
    first = None
    for seed in range(5):
        inputs = values(seed, 3, 3), values(seed + 9, 3, 3)
        before = [each.clone() for each in inputs]
        outputs = captured(*inputs)
        assert_equal(outputs, function.function(*inputs))
        assert_equal(list(inputs), before)
        first = first or outputs
        assert all(output is other for output, other in zip(outputs, first, strict=True))
    assert (graphs.captures, graphs.replays, function.runs) == (1, 5, RUNS_A_CAPTURE)


def test_a_state_is_changed_once_a_call() -> None:
    eager, mine = Memory(6), Memory(6)
    captured = CapturedFunction(mine.add, state=mine.tensors, graphs=RecordedGraphs())
    for seed in range(6):
        x = values(seed, 2)
        assert_equal(captured(x), eager.add(x))
        assert_equal(mine.tensors, eager.tensors)


def test_a_capture_ahead_leaves_the_state() -> None:
    memory, graphs = Memory(1), RecordedGraphs()
    captured = CapturedFunction(memory.add, state=memory.tensors, graphs=graphs)
    captured.capture(torch.ones(2))
    assert_equal(memory.tensors, Memory(1).tensors)
    assert (graphs.captures, graphs.replays) == (1, 0)
    assert captured(torch.full((2,), 3.0)).tolist() == [3, 3]
    assert graphs.captures == 1


def test_named_tuples_go_in_and_come_out() -> None:
    def function(pair: Pair[Tensor], rest: tuple[Found, Tensor]) -> Found:
        found, scale = rest
        return Found(found.boxes * scale, Pair(pair.rgb + found.scores.tir, pair.tir - found.scores.rgb))

    captured = CapturedFunction(function, graphs=RecordedGraphs())
    for seed in range(3):
        rgb, tir, boxes, scale = values(seed, 4, 2, 3)
        inputs = Pair(rgb, tir), (Found(boxes, Pair(tir, rgb)), scale)
        outputs = captured(*inputs)
        assert type(outputs) is Found
        assert type(outputs.scores) is Pair
        assert_equal(outputs, function(*inputs))
    assert [type(each) for each in captured.inputs] == [Pair, tuple]
    assert type(captured.inputs[1][0]) is Found


def test_what_changes_captures_again_and_nothing_else() -> None:
    graphs, function = RecordedGraphs(), Counted(lambda pair: pair.rgb.float() + pair.tir)
    captured = CapturedFunction(function, graphs=graphs)

    def captures(rgb: Tensor, tir: Tensor, key: object = None, kind: Any = Pair) -> int:
        before = graphs.captures
        with torch.no_grad():
            expected = rgb.float() + tir
        assert_equal(captured(kind(rgb, tir), key=key), expected)
        assert len(graphs.alive) == 1
        assert function.runs == RUNS_A_CAPTURE * graphs.captures
        return graphs.captures - before

    class Other(NamedTuple):
        rgb: Tensor
        tir: Tensor

    assert captures(values(0, 2), values(1, 2)) == 1
    assert captures(values(2, 2), values(3, 2)) == 0
    assert captures(values(2, 2, 2).transpose(0, 1)[0], values(3, 4)[::2].requires_grad_()) == 0
    assert captures(values(2, 3), values(3, 3)) == 1
    assert captures(values(2, 3), values(3, 1)) == 1
    assert captures(values(2, 3), values(3, 1), key=("bfloat16", 2)) == 1
    assert captures(values(4, 3), values(3, 1), key=("bfloat16", 2)) == 0
    assert captures(values(4, 3).double(), values(3, 1), key=("float64", 2)) == 1
    assert captures(values(4, 3).double(), values(3, 1), key=("float64", 2), kind=Other) == 1
    assert captures(values(2, 2), values(3, 2)) == 1  # one graph is kept


def test_another_state_captures_again() -> None:
    graphs, memory = RecordedGraphs(), Memory(3)

    def function(x: Tensor) -> Tensor:
        return memory.add(x)

    captured = CapturedFunction(function, state=memory.tensors, graphs=graphs)
    for rows in (3, 4):
        memory = Memory(rows)
        captured.state = memory.tensors
        for count in range(rows):
            assert_equal(captured(torch.ones(2)), torch.ones(2))
            assert memory.count == count + 1
    assert graphs.captures == 2


def test_another_dtype_needs_another_key() -> None:
    captured = CapturedFunction(add, graphs=RecordedGraphs())
    captured(torch.ones(2), torch.ones(2))
    for wrong in (torch.ones(2).double(), torch.ones(3, dtype=torch.uint8)):
        message = rf"CapturedFunction\(add\): input 1: expected torch.float32, got {wrong.dtype}; another key"
        with pytest.raises(TypeError, match=message):
            captured(torch.ones(2), wrong)
    assert captured(torch.ones(2), torch.ones(2)).tolist() == [2, 2]
    assert captured(torch.ones(2), torch.ones(2).double(), key=1).dtype == torch.float64


@pytest.mark.parametrize(
    ("function", "inputs", "message"),
    [
        (add, (torch.ones(1), 2.0), r"CapturedFunction\(add\): input 1: expected a tensor, got float"),
        (lambda x: (x, Pair(x, 3)), (torch.ones(1),), "output 2: expected a tensor, got int"),
        (lambda x: None, (torch.ones(1),), "output 0: expected a tensor, got NoneType"),  # noqa: ARG005
        (lambda: torch.ones(1), (), "expected an input or a state, got none"),
    ],
)
def test_what_is_not_a_tensor_is_refused(function: Callable[..., Any], inputs: tuple[Any, ...], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        CapturedFunction(function, graphs=RecordedGraphs())(*inputs)


def test_tensors_of_the_host_need_a_stand_in() -> None:
    with pytest.raises(ValueError, match=r"CapturedFunction\(add\): expected tensors on a GPU, got cpu"):
        CapturedFunction(add)(torch.ones(1), torch.ones(1))


def test_an_operation_that_no_graph_holds_is_named_and_leaves_the_state() -> None:
    memory, graphs, reads = Memory(9), RecordedGraphs(), True

    def learn(x: Tensor) -> Tensor:
        mean = memory.add(x)
        return mean * mean.sum().item() if reads else mean

    captured = CapturedFunction(learn, state=memory.tensors, graphs=graphs)
    with pytest.raises(
        RuntimeError, match=r"CapturedFunction\(.*learn\): expected .* graph can hold.*not permitted"
    ) as error:
        captured(torch.ones(2))
    assert "_local_scalar_dense" in str(error.value)  # the first error, not that of the capture's end
    assert_equal(memory.tensors, Memory(9).tensors)
    assert graphs.current.name == "main"
    assert not graphs.alive
    with pytest.raises(RuntimeError, match="expected a capture before, got none"):
        _ = captured.inputs

    reads = False
    assert captured(torch.ones(2)).tolist() == [1, 1]
    assert memory.count == 1


def test_an_error_of_the_function_itself_is_raised_as_it_is_and_leaves_the_state() -> None:
    memory, graphs = Memory(9), RecordedGraphs()

    def learn(x: Tensor) -> Tensor:
        memory.add(x)
        raise KeyError("wrong")

    with pytest.raises(KeyError, match="wrong"):
        CapturedFunction(learn, state=memory.tensors, graphs=graphs)(torch.ones(2))
    assert_equal(memory.tensors, Memory(9).tensors)
    assert graphs.captures == 0
    assert graphs.waits[-1] == ("main", "side 1")  # the state is restored there


def test_after_a_failure_nothing_is_captured() -> None:
    graphs = RecordedGraphs()
    captured = CapturedFunction(lambda x: x[:, 0] if x.dim() == 2 else x.nonzero(), graphs=graphs)
    for seed in range(2):
        x = values(seed, 3, 3)
        assert_equal(captured(x), x[:, 0])
        with pytest.raises(RuntimeError, match="nonzero"):
            captured(x[0])
        assert not graphs.alive


class Copies(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten.copy_.default
        return func(*args, **(kwargs or {}))


def test_inputs_may_be_written_in_place() -> None:
    total = torch.zeros(2)
    captured = CapturedFunction(lambda x, y: total.add_(x).add_(y), state=total, graphs=RecordedGraphs())
    captured(torch.ones(2), torch.ones(2))
    for buffer in captured.inputs:
        buffer.fill_(3)
    y = torch.zeros(2)
    for inputs, copies in ((captured.inputs, 0), ((captured.inputs[0], y), 1), ((y, y), 2)):
        with Copies() as counted:
            captured(*inputs)
        assert counted.count == copies
    assert total.tolist() == [2 + 6 + 3 + 0] * 2


def test_outputs_may_be_the_next_inputs() -> None:
    captured = CapturedFunction(lambda x: x * 2 + 1, graphs=RecordedGraphs())
    x = torch.ones(2)
    for _ in range(3):
        x = captured(x)
    assert x.tolist() == [15, 15]


def test_warm_up_and_capture_are_on_one_side_stream() -> None:
    graphs, names = RecordedGraphs(), []
    captured = CapturedFunction(lambda x: (names.append(graphs.current.name), x + 1)[1], graphs=graphs)
    captured(torch.ones(1))
    assert names == ["side 1"] * RUNS_A_CAPTURE
    assert graphs.waits == [("side 1", "main"), ("main", "side 1")]
    assert graphs.current.name == "main"


def test_memory_is_shared_with_a_graph_that_lives() -> None:
    graphs, pools, alive = RecordedGraphs(), [], lambda captured: captured._captured.graph
    track = CapturedFunction(lambda x: x + 1, graphs=graphs)
    learn = CapturedFunction(lambda x: x * 3, shares_memory_with=track, graphs=graphs)
    for size in (2, 2, 5):
        for captured in (track, learn):
            captured(torch.ones(size))
        assert alive(track).pool() is alive(learn).pool()
        assert track._captured.stream is learn._captured.stream
        pools.append(alive(track).pool())
    assert pools[0] is pools[1] is not pools[2]
    assert len(graphs.alive) == 2

    alone = CapturedFunction(lambda x: x * 3, shares_memory_with=CapturedFunction(torch.exp), graphs=graphs)
    assert alone(torch.ones(1)).item() == 3  # the other is not captured yet


def test_buffers_keep_the_layout_of_the_first_inputs() -> None:
    captured = CapturedFunction(lambda x: x + 1, graphs=RecordedGraphs())
    captured(values(0, 2, 3, 4, 4).to(memory_format=torch.channels_last))
    assert captured.inputs[0].is_contiguous(memory_format=torch.channels_last)
