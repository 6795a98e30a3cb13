"""Parameters, buffers and their gradients are contiguous: FSDP, safetensors and DDP's buckets take nothing else."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from harness.case import SIZES, Case, assert_same
from harness.cases import CASES, over
from torch import Tensor, nn

WITH_STATE = over([case for case in CASES if case.module().state_dict()])


def channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def strides(shape: torch.Size) -> tuple[int, ...]:
    """A contiguous tensor's, exactly: ``is_contiguous`` says nothing of axes of length 1."""
    return torch.empty(shape).stride()


def assert_contiguous(module: nn.Module) -> None:
    for name, values in module.state_dict(keep_vars=True).items():
        assert values.stride() == strides(values.shape), name
        if values.grad is not None:
            assert values.grad.stride() == strides(values.shape), f"gradient of {name}"


def step(case: Case, module: nn.Module, dtype: torch.dtype, layout: bool) -> None:
    tensors = case.tensors(SIZES, dtype)
    if layout:
        tensors = case.attached({name: channels_last(values) for name, values in tensors.items()})
    case.scalar(case.call(module, tensors)).backward()


@WITH_STATE
@pytest.mark.parametrize("layout", [False, True], ids=["contiguous", "channels-last"])
def test_state_and_gradients_are_contiguous(case: Case, layout: bool) -> None:
    module = case.module(SIZES, torch.float32, train=True)
    assert_contiguous(module)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for _ in range(2):  # the first step makes the gradients, the second adds to them
        step(case, module, torch.float32, layout)
        assert_contiguous(module)
    optimizer.step()
    assert_contiguous(module)
    assert_contiguous(copy.deepcopy(module))
    assert_contiguous(module.to(torch.bfloat16))


@WITH_STATE
def test_a_channels_last_state_is_loaded_and_saved(case: Case, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    module, other = case.module(), copy.deepcopy(case.module())
    state = {name: channels_last(values) for name, values in module.state_dict().items()}
    for values in [*other.parameters(), *other.buffers()]:
        values.detach().zero_()
    other.load_state_dict(state)
    assert_contiguous(other)
    safetensors.save_file(other.state_dict(), tmp_path / "state.safetensors")
    third = case.module()
    third.load_state_dict(safetensors.load_file(tmp_path / "state.safetensors"))
    assert_same(case.step(third, case.tensors()), case.step(module, case.tensors()), rtol=0, atol=0)
