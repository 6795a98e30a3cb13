"""A stand-in for CUDA graphs on a CPU: the operations of a capture are recorded, and a replay runs them again.

``RecordedGraphs`` takes the place of ``torch.cuda``. As on a GPU, a capture computes nothing: tensors that it changed
get their values back, and tensors that it made hold NaN until a replay. A replay runs no Python code of the function.
It reads and writes the same memory as the recorded operations. What a GPU refuses in a capture is refused: reads by the
host, shapes that depend on values, and tensors made from Python lists. Not noticed are copies between host and GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

MASKABLE = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default}
"""Operations whose shapes depend on values only if an index is a mask."""

HOST_READS = {Tensor.tolist, Tensor.numpy, Tensor.cpu, Tensor.__array__}
"""Reads that PyTorch does not dispatch where the tensor is on the CPU."""

MASK_DTYPES = (torch.bool, torch.uint8)


class Stream:
    """A stream; all are the same on a CPU."""

    def __init__(self, graphs: RecordedGraphs, name: str) -> None:
        self.graphs, self.name = graphs, name

    def wait_stream(self, other: Stream) -> None:
        self.graphs.waits.append((self.name, other.name))


class Operation:
    """An operation of a capture.

    Attributes:
        call: runs it on the recorded memory.
        made: the outputs that are not views of an input, or an input itself.
        before: the tensors it changes, with their values before it.
    """

    def __init__(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        # Aliases, because the function may change the shape of a tensor in place later.
        args, kwargs = pytree.tree_map_only(Tensor, lambda values: values.detach(), (args, kwargs))
        self.call: Callable[[], Any] = lambda: func(*args, **kwargs)
        self.read = {_memory(values) for values in _tensors((args, kwargs))}
        arguments = func._schema.arguments
        named = dict(zip((argument.name for argument in arguments), args, strict=False)) | kwargs
        changed = [
            named.get(each.name) for each in arguments if each.alias_info is not None and each.alias_info.is_write
        ]
        self.before = [(values, values.clone()) for values in _tensors(changed)]
        self.changes_shape = torch.Tag.inplace_view in func.tags
        self.made: list[Tensor] = []

    def keep(self, outputs: Any) -> None:
        """Keep what the function got, into which a replay writes."""
        self.made = [values.detach() for values in _tensors(outputs) if _memory(values) not in self.read]

    def undo(self) -> None:
        for values, before in self.before:
            values.copy_(before)

    def spoil(self) -> None:
        """Fill the outputs with what no test can take for a result."""
        for values in self.made:
            if values.is_floating_point():
                values.fill_(torch.nan)
            elif values.dtype != torch.bool:
                values.fill_(torch.iinfo(values.dtype).max)

    def run(self) -> None:
        if self.changes_shape or not (self.before or self.made):
            return  # a view: it computes nothing
        outputs = _tensors(self.call())
        if self.made:
            made = [values for values in outputs if _memory(values) not in self.read]
            for into, values in zip(self.made, made, strict=True):
                into.copy_(values)


class Recording(TorchDispatchMode):
    """Records each operation, or refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Operation] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        _refuse(func, args)
        operation = Operation(func, args, kwargs or {})
        self.operations.append(operation)  # before it runs, so that what it changed is undone if it fails
        outputs = func(*args, **(kwargs or {}))
        operation.keep(outputs)
        return outputs


class HostReads(TorchFunctionMode):
    """Refuses the reads that are not dispatched."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in HOST_READS:
            raise not_permitted(func.__name__)
        return func(*args, **(kwargs or {}))


class RecordedGraph:
    """The stand-in for ``torch.cuda.CUDAGraph``."""

    def __init__(self, graphs: RecordedGraphs) -> None:
        self.graphs = graphs
        self.operations: list[Operation] | None = None
        self.memory: object = None

    @torch.inference_mode()  # in which it may write into any tensor, as a GPU may
    def replay(self) -> None:
        assert self.operations is not None, "nothing is captured, or the graph was reset"
        assert not self.graphs.capturing, "a replay in a capture"
        for operation in self.operations:
            operation.run()
        self.graphs.replays += 1

    def reset(self) -> None:
        self.operations = None
        self.graphs.alive.discard(self)

    def pool(self) -> object:
        assert self.operations is not None, "a graph without capture has no memory"
        return self.memory


class RecordedGraphs:
    """The stand-in for ``torch.cuda``.

    Attributes:
        captures: number of captures, those that failed included.
        replays: number of replays.
        alive: the captured graphs that were not reset.
        waits: which stream waited for which, by name.
        current: the current stream.
        capturing: whether a capture runs.
    """

    def __init__(self) -> None:
        self.captures = self.replays = self.streams = 0
        self.alive: set[RecordedGraph] = set()
        self.waits: list[tuple[str, str]] = []
        self.current = Stream(self, "main")
        self.capturing = False

    def CUDAGraph(self) -> RecordedGraph:  # noqa: N802
        return RecordedGraph(self)

    def Stream(self, device: torch.device) -> Stream:  # noqa: N802, ARG002
        self.streams += 1
        return Stream(self, f"side {self.streams}")

    def current_stream(self, device: torch.device) -> Stream:  # noqa: ARG002
        return self.current

    @contextmanager
    def stream(self, stream: Stream) -> Iterator[None]:
        previous, self.current = self.current, stream
        try:
            yield
        finally:
            self.current = previous

    @contextmanager
    def graph(
        self,
        graph: RecordedGraph,
        pool: object = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
    ) -> Iterator[None]:
        assert not self.capturing, "a capture in a capture"
        assert capture_error_mode in ("global", "thread_local", "relaxed")
        assert pool is None or pool in {each.memory for each in self.alive}, "memory that no graph has"
        self.captures += 1
        previous, self.current = self.current, stream or Stream(self, "capture")
        recording = Recording()
        self.capturing = True
        try:
            with HostReads(), recording:
                yield
        except Exception as error:
            # As torch.cuda.graph does, which leaves its stream the current one, too.
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture") from error
        finally:
            self.capturing = False
            _leave_unrun(recording.operations)
        self.current = previous
        graph.operations, graph.memory = recording.operations, pool or object()
        self.alive.add(graph)


@torch.inference_mode()
def _leave_unrun(operations: list[Operation]) -> None:
    for operation in reversed(operations):
        operation.undo()
    for operation in operations:
        operation.spoil()


def not_permitted(name: str) -> RuntimeError:
    return RuntimeError(f"CUDA error: operation not permitted when stream is capturing: {name}")


def _refuse(func: Any, args: tuple[Any, ...]) -> None:
    tags = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape} & set(func.tags)
    masked = any(index is not None and index.dtype in MASK_DTYPES for index in args[1]) if func in MASKABLE else False
    # A number becomes a tensor without a copy from the host; a list does not.
    listed = func is aten.lift_fresh.default and args[0].dim() > 0
    if masked or listed or (tags and func not in MASKABLE):
        raise not_permitted(str(func))


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in pytree.tree_leaves(values) if isinstance(value, Tensor)]


def _memory(values: Tensor) -> int:
    return values.untyped_storage()._cdata
