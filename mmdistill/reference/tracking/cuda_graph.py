"""A function of tensors as a CUDA graph: captured once, then replayed by one launch.

https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs has the rules that a captured function must keep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

Tensors: TypeAlias = Tensor | tuple["Tensors", ...]
"""A tensor, or nested tuples and named tuples of tensors."""

Output = TypeVar("Output")

WARM_UP_CALLS = 3
"""Calls before a capture, in which libraries allocate workspaces and choose kernels; PyTorch's examples have three."""


class _Captured(NamedTuple):
    """A captured graph, and the memory that it reads and writes.

    Attributes:
        key: the caller's key.
        layout: nesting, shapes and devices of the inputs.
        dtypes: dtypes of the inputs.
        state: the tensors that the function changes.
        inputs: the input buffers, nested as the inputs.
        buffers: the input buffers in order.
        outputs: the tensors that a replay writes.
        graph: a ``torch.cuda.CUDAGraph``.
        stream: the stream of the capture.
        device: the GPU.
    """

    key: object
    layout: tuple[object, ...]
    dtypes: list[torch.dtype]
    state: Tensors
    inputs: tuple[Any, ...]
    buffers: list[Tensor]
    outputs: Any
    graph: Any
    stream: Any
    device: torch.device


class CapturedFunction(Generic[Output]):
    """A function of tensors that is captured once as a CUDA graph and replayed.

    A call copies its inputs into fixed buffers, replays the graph, and returns the graph's own outputs. They last until
    the next call; copy what must last longer. Calls run without gradients; inside, ``torch.enable_grad`` may be used.

    Another ``key``, nesting, shape or device of the inputs, or another ``state``, captures again and frees the old
    graph. Other dtypes need another key, so that no input is cast by mistake. Autocast is that of the capture; a caller
    that changes it gives another key.

    Args:
        function: maps tensors to tensors, both nested in tuples and named tuples. Shapes are fixed. The function reads
            no values on the host and does not change its inputs. It may read any tensors that keep their memory.
        state: the tensors that the function changes in place. Assign ``state`` when other tensors replace them.
        device: the GPU of the input buffers, by default the device of each input. If given, inputs may be in pinned
            memory of the host: a call starts their upload and does not wait for it.
        shares_memory_with: a function that never runs at the same time. Both graphs use the same memory, so the outputs
            of each last until the next call of either.
        graphs: ``torch.cuda``, or a stand-in with its ``CUDAGraph``, ``graph``, ``Stream``, ``stream`` and
            ``current_stream``.
    """

    def __init__(
        self,
        function: Callable[..., Output],
        *,
        state: Tensors = (),
        device: torch.device | str | None = None,
        shares_memory_with: CapturedFunction[Any] | None = None,
        graphs: Any = torch.cuda,
    ) -> None:
        self.state = state
        self._function = function
        self._device = None if device is None else torch.device(device)
        self._shares_memory_with = shares_memory_with
        self._graphs = graphs
        self._captured: _Captured | None = None
        self._name = getattr(function, "__qualname__", type(function).__name__)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """The input buffers, nested as the inputs.

        A caller may write into them and pass them to the next call, which then copies nothing.

        Raises:
            RuntimeError: nothing is captured.
        """
        if self._captured is None:
            raise RuntimeError(f"CapturedFunction({self._name}).inputs: expected a capture before, got none")
        return self._captured.inputs

    @torch.no_grad()
    def __call__(self, *inputs: Tensors, key: object = None) -> Output:
        """Return the function's outputs; they last until the next call.

        Args:
            inputs: the function's inputs.
            key: what else the function depends on, such as the precision; a value that ``==`` compares.

        Raises:
            RuntimeError: a CUDA graph cannot hold an operation of the function. The state is unchanged.
            TypeError: an input or output is not a tensor, or an input has another dtype than before with this key.
            ValueError: the tensors are not on a GPU.
        """
        leaves, nesting = pytree.tree_flatten(inputs)
        captured = self._capture(leaves, nesting, key)
        for buffer, values in zip(captured.buffers, leaves, strict=True):
            if values is not buffer:
                buffer.copy_(values, non_blocking=True)
        captured.graph.replay()
        outputs: Output = captured.outputs
        return outputs

    @torch.no_grad()
    def capture(self, *inputs: Tensors, key: object = None) -> None:
        """Capture the function for such inputs, unless it is; the state does not change. See ``__call__``."""
        self._capture(*pytree.tree_flatten(inputs), key)

    def _capture(self, leaves: list[Any], nesting: pytree.TreeSpec, key: object) -> _Captured:
        """Return the capture for these inputs, a new one if it is not the present one."""
        for index, values in enumerate(leaves):
            self._check_tensor(f"input {index}", values)
        layout = (nesting, *((values.shape, self._device or values.device) for values in leaves))
        captured = self._captured
        if captured is not None and captured.key == key:
            for index, (values, dtype) in enumerate(zip(leaves, captured.dtypes, strict=False)):
                if values.dtype != dtype:
                    raise TypeError(
                        f"CapturedFunction({self._name}): input {index}: expected {dtype}, got {values.dtype}; "
                        "another key captures for other dtypes"
                    )
            if captured.layout == layout and captured.state is self.state:
                return captured
        if captured is not None:
            captured.graph.reset()
        self._captured = captured = None  # frees its memory, now that no graph uses it
        self._captured = self._new_capture(leaves, nesting, key, layout)
        return self._captured

    def _new_capture(
        self, leaves: list[Tensor], nesting: pytree.TreeSpec, key: object, layout: tuple[object, ...]
    ) -> _Captured:
        state = pytree.tree_leaves(self.state)
        with torch.inference_mode(False):  # the buffers can then be written in any mode
            buffers = [torch.empty_like(values, device=self._device or values.device) for values in leaves]
        for buffer, values in zip(buffers, leaves, strict=True):
            buffer.copy_(values)
        device = self._gpu([*buffers, *state])
        inputs = pytree.tree_unflatten(buffers, nesting)

        graphs, pool = self._graphs, None
        graph, stream, main = graphs.CUDAGraph(), graphs.Stream(device=device), graphs.current_stream(device)
        other = None if self._shares_memory_with is None else self._shares_memory_with._captured
        if other is not None and other.device == device:
            stream, pool = other.stream, other.graph.pool()  # graphs share memory only within one stream
        # A graph must not read weights that autocast cast before it and frees after it.
        autocast = torch.autocast(device.type, enabled=torch.is_autocast_enabled(device.type), cache_enabled=False)
        # The outer context restores the stream after a failed capture; torch.cuda.graph does not.
        with autocast, graphs.stream(stream):
            stream.wait_stream(main)
            try:
                self._warm_up(inputs, state)
            finally:
                main.wait_stream(stream)
            outputs = self._record(inputs, graph, stream, pool)
        for index, values in enumerate(pytree.tree_leaves(outputs)):
            self._check_tensor(f"output {index}", values)
        dtypes = [values.dtype for values in leaves]
        return _Captured(key, layout, dtypes, self.state, inputs, buffers, outputs, graph, stream, device)

    def _gpu(self, tensors: Sequence[Tensor]) -> torch.device:
        if not tensors:
            raise TypeError(f"CapturedFunction({self._name}): expected an input or a state, got none")
        device = tensors[0].device
        if self._graphs is torch.cuda and device.type != "cuda":
            raise ValueError(f"CapturedFunction({self._name}): expected tensors on a GPU, got {device}")
        return device

    def _warm_up(self, inputs: tuple[Any, ...], state: Sequence[Tensor]) -> None:
        """Call the function from the same state each time, and leave that state."""
        saved = [values.clone() for values in state]
        for _ in range(WARM_UP_CALLS):
            try:
                self._function(*inputs)
            finally:
                for values, before in zip(state, saved, strict=True):
                    values.copy_(before)

    def _record(self, inputs: tuple[Any, ...], graph: Any, stream: Any, pool: Any) -> Output:
        """Return the outputs that a replay writes; the function's operations are recorded and do not run."""
        cause: Exception | None = None
        try:
            # "thread_local": other threads may use the GPU meanwhile, for example to pin memory.
            with self._graphs.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
                try:
                    return self._function(*inputs)
                except Exception as error:
                    cause = error  # ending the capture raises a less precise error
                    raise
        except Exception as error:
            raise RuntimeError(
                f"CapturedFunction({self._name}): expected operations that a CUDA graph can hold, got {cause or error}"
            ) from (cause or error)

    def _check_tensor(self, where: str, values: object) -> None:
        if not isinstance(values, Tensor):
            raise TypeError(f"CapturedFunction({self._name}): {where}: expected a tensor, got {type(values).__name__}")
