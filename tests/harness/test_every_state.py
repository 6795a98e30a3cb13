"""Every module is copied, saved, loaded and built without memory like any other."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from harness.case import SIZES, Case, assert_same
from harness.cases import every_case
from torch import nn


def _spoilt(module: nn.Module) -> nn.Module:
    """Return the module with other values in every parameter and buffer."""
    with torch.no_grad():
        for values in [*module.parameters(), *module.buffers()]:
            values.fill_(3)
    return module


@every_case
def test_a_deep_copy_is_equal_and_apart(case: Case) -> None:
    module, tensors = case.module(), case.tensors()
    expected = case.step(module, tensors)
    twin = copy.deepcopy(module)
    _spoilt(module)
    assert_same(case.step(twin, tensors), expected, rtol=0, atol=0)


@every_case
def test_its_state_goes_through_a_file(case: Case, tmp_path: Path) -> None:
    module, tensors = case.module(train=True), case.tensors()
    case.step(module, tensors)  # moves the statistics of batch norm
    module.eval()
    torch.save(module.state_dict(), tmp_path / "state.pt")
    other = _spoilt(case.module())
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert_same(case.step(other, tensors), case.step(module, tensors), rtol=0, atol=0)


@every_case
def test_it_is_built_on_the_meta_device(case: Case) -> None:
    module, tensors = case.module(), case.tensors()
    with torch.device("meta"):
        empty = case.build(SIZES)
    assert all(values.is_meta for values in [*empty.parameters(), *empty.buffers()])
    filled = _spoilt(empty.to_empty(device="cpu").to(torch.float64)).eval()
    filled.load_state_dict(module.state_dict())
    assert_same(case.step(filled, tensors), case.step(module, tensors), rtol=0, atol=0)


@every_case
def test_it_keeps_no_tensor_between_calls(case: Case) -> None:
    module = case.module()
    before = {name: set(vars(part)) for name, part in module.named_modules()}
    case.step(module, case.tensors())
    after = {name: set(vars(part)) for name, part in module.named_modules()}
    assert after == before
    kept = [key for part in module.modules() for key, value in vars(part).items() if isinstance(value, torch.Tensor)]
    assert not kept
