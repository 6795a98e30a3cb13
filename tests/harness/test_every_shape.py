"""Any size, any degenerate values, any memory layout."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from harness.case import Case, Sizes, assert_finite, assert_same
from harness.cases import every_case
from torch import Tensor

SIZES = {
    "1x1": Sizes(height=1, width=1),
    "batch-1": Sizes(batch=1),
    "1x1-batch-1": Sizes(batch=1, height=1, width=1),
    "8x12": Sizes(height=8, width=12),
    "7x5": Sizes(height=7, width=5),
    "3x17": Sizes(height=3, width=17),
    "1x9": Sizes(height=1, width=9),
    "one-channel": Sizes(student=1, teacher=1),
    "student-wider": Sizes(student=5, teacher=2),
    "same-channels": Sizes(student=3, teacher=3),
}
VALUES: dict[str, Callable[[Tensor], Tensor]] = {
    "zero": torch.zeros_like,
    "one": torch.ones_like,
    "minus-two": lambda values: torch.full_like(values, -2.0),
}


@every_case
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
def test_any_size_is_finite(case: Case, sizes: Sizes) -> None:
    assert_finite(case.step(case.module(sizes), case.tensors(sizes)))


@every_case
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("fill", VALUES.values(), ids=VALUES.keys())
def test_constant_maps_are_finite(case: Case, fill: Callable[[Tensor], Tensor], train: bool) -> None:
    case.applies("constant maps")
    tensors = case.attached({name: fill(values) for name, values in case.tensors().items()})
    assert_finite(case.step(case.module(train=train), tensors))


@every_case
def test_a_student_that_equals_its_teacher_is_finite(case: Case) -> None:
    sizes = Sizes(student=3, teacher=3)
    tensors = case.tensors(sizes)
    for name in case.teachers:
        twin = name.replace("teacher", "student")
        tensors[name] = tensors.get(twin, tensors[name]).detach().clone()
    assert_finite(case.step(case.module(sizes), tensors))


def channels_last(values: Tensor) -> Tensor:
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def reversed_axes(values: Tensor) -> Tensor:
    axes = tuple(reversed(range(values.ndim)))
    return values.permute(axes).contiguous().permute(axes)


def every_second(values: Tensor) -> Tensor:
    return torch.stack([values, torch.full_like(values, torch.nan)], dim=-1)[..., 0]


@every_case
@pytest.mark.parametrize("layout", [channels_last, reversed_axes, every_second], ids=lambda layout: layout.__name__)
def test_memory_layout_changes_nothing(case: Case, layout: Callable[[Tensor], Tensor]) -> None:
    module, tensors = case.module(), case.tensors()
    laid_out = case.attached({name: layout(values.detach()) for name, values in tensors.items()})
    assert_same(case.step(module, laid_out), case.step(module, tensors), rtol=1e-9, atol=1e-12)


@every_case
def test_no_input_is_written_to(case: Case) -> None:
    tensors = case.tensors()
    before = {name: values.detach().clone() for name, values in tensors.items()}
    case.step(case.module(train=True), tensors)
    assert all(torch.equal(tensors[name], values) for name, values in before.items())
