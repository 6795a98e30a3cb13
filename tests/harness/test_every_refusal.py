"""What is wrong is refused with an error that names it; nothing is broadcast."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import torch
from harness.case import Case, Sizes, assert_finite, named
from harness.cases import BLOCKS, CASES, LOSSES, every_case
from torch import Tensor

from mmdistill import NotFiniteError, ShapeError

SIZES = Sizes(batch=2, height=6, width=8, student=4, teacher=6)


def each_input(cases: list[Case]) -> pytest.MarkDecorator:
    pairs = [(case, name) for case in cases for name in case.inputs]
    return pytest.mark.parametrize(("case", "name"), pairs, ids=[f"{case.name}-{name}" for case, name in pairs])


def fixed_axes() -> Iterator[tuple[Case, str, int]]:
    """Every axis of every input that must agree with something else and is longer than 1."""
    for case in CASES:
        for name, given in case.inputs.items():
            for axis, letter in enumerate(given.axes.split()):
                independent = {letter, letter.strip("/+0123456789")} & set(given.independent.split())
                if not independent and SIZES.shape(letter) != (1,):
                    yield case, name, axis


AXES = [
    pytest.param(case, name, axis, id=f"{case.name}-{name}-{case.inputs[name].axes.split()[axis]}")
    for case, name, axis in fixed_axes()
]


@every_case
@pytest.mark.parametrize("sizes", [Sizes(batch=0), Sizes(height=0), Sizes(width=0)], ids=["batch", "height", "width"])
def test_emptiness_is_refused(case: Case, sizes: Sizes) -> None:
    tensors = case.tensors(sizes)
    if all(values.numel() for values in tensors.values()):
        pytest.skip(f"{case.name} has no such axis")
    with pytest.raises(ShapeError, match=r"got 0$"):
        case.call(case.module(), tensors)


@pytest.mark.parametrize(("case", "name", "axis"), AXES)
def test_one_is_never_broadcast(case: Case, name: str, axis: int) -> None:
    tensors = case.tensors(SIZES)
    tensors[name] = tensors[name].narrow(axis, 0, 1)
    with pytest.raises(ShapeError):
        case.call(case.module(SIZES), tensors)


@pytest.mark.parametrize(("case", "name", "axis"), AXES)
def test_one_more_is_refused(case: Case, name: str, axis: int) -> None:
    tensors = case.tensors(SIZES)
    tensors[name] = torch.cat([tensors[name], tensors[name].narrow(axis, 0, 1)], dim=axis)
    with pytest.raises(ShapeError):
        case.call(case.module(SIZES), tensors)


@each_input(CASES)
@pytest.mark.parametrize("more", [True, False], ids=["one-axis-more", "one-axis-less"])
def test_the_number_of_axes_is_checked(case: Case, name: str, more: bool) -> None:
    tensors = case.tensors()
    tensors[name] = tensors[name][None] if more else tensors[name][0]
    with pytest.raises(ShapeError):
        case.call(case.module(), tensors)


@each_input(LOSSES)
def test_nan_is_named(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    with pytest.raises(NotFiniteError, match=name.replace(" ", ".*")):
        case.call(case.module(), _spoilt(case, name, torch.nan))


@each_input(LOSSES)
@pytest.mark.parametrize("bad", [torch.inf, -torch.inf], ids=str)
def test_infinity_is_named_or_does_no_harm(case: Case, name: str, bad: float) -> None:
    refused = ""
    try:
        assert_finite(case.step(case.module(), _spoilt(case, name, bad)))
    except NotFiniteError as error:
        refused = str(error)
    assert not refused or re.search(name.replace(" ", ".*"), refused)


@each_input(BLOCKS)
def test_nan_passes_through_a_block(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    outputs = named(case.call(case.module(), _spoilt(case, name, torch.nan)))
    assert any(bool(output.isnan().any()) for output in outputs.values())


def _spoilt(case: Case, name: str, bad: float) -> dict[str, Tensor]:
    """Return the inputs with one element of one of them spoilt."""
    tensors = case.tensors()
    values = tensors[name].detach().clone()
    values.view(-1)[-1] = bad
    return tensors | case.attached({name: values})
