"""What is wrong is refused with an error that names it; nothing is broadcast."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator

import pytest
import torch
from harness.case import Case, Sizes, assert_finite, named
from harness.cases import BLOCKS, CASES, LOSSES, every_case, marks_of, over
from torch import Tensor, nn

from mmdistill import NotFiniteError, ShapeError

SIZES = Sizes(batch=2, height=6, width=8, student=4, teacher=6)


def each_input(cases: list[Case]) -> pytest.MarkDecorator:
    pairs = [
        pytest.param(case, name, id=f"{case.name}-{name}", marks=marks_of(case, cases))
        for case in cases
        for name in case.inputs
    ]
    return pytest.mark.parametrize(("case", "name"), pairs)


def fixed_axes() -> Iterator[tuple[Case, str, int]]:
    """Every axis of every input that must agree with something else and is longer than 1."""
    for case in CASES:
        for name, given in case.inputs.items():
            for axis, letter in enumerate(given.axes.split()):
                independent = {letter, letter.strip("/+0123456789")} & set(given.independent.split())
                if not independent and SIZES.shape(letter) != (1,):
                    yield case, name, axis


AXES = [
    pytest.param(
        case, name, axis, id=f"{case.name}-{name}-{case.inputs[name].axes.split()[axis]}", marks=marks_of(case, CASES)
    )
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
def test_what_is_not_finite_is_named_and_leaves_no_trace(case: Case, name: str) -> None:
    count = case.tensors()[name].numel()
    for bad, position in ((torch.nan, 0), (torch.inf, count // 2), (-torch.inf, count - 1)):
        spoilt = _spoilt(case, name, bad, position)
        if f"nan in {name}" in case.exempt:
            assert_finite(case.step(case.module(), spoilt))
            continue
        module = case.module(train=True)
        before = copy.deepcopy(module.state_dict())
        with pytest.raises(NotFiniteError, match=name.replace(" ", ".*")):
            case.call(module, spoilt)
        _assert_same_state(module, before)


@each_input([case for case in CASES if any(True for _ in case.module().buffers())])
def test_a_refused_shape_leaves_no_trace(case: Case, name: str) -> None:
    module, tensors = case.module(SIZES, train=True), case.tensors(SIZES)
    before = copy.deepcopy(module.state_dict())
    values = tensors[name]
    for wrong in (values[None], values[:, :1], values[:1] if "B" not in case.inputs[name].independent else values[0]):
        if wrong.shape == values.shape:  # a mask has one channel
            continue
        with pytest.raises(ShapeError):
            case.call(module, tensors | {name: wrong})
        _assert_same_state(module, before)


@each_input(CASES)
def test_other_numbers_than_floating_point_are_refused_or_taken_for_them(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    module, tensors = case.module(), case.tensors()
    whole = tensors[name].detach().abs().long()
    eighths = [torch.float8_e4m3fn] if case.is_loss else []  # some blocks only move them about
    for dtype in (torch.int64, torch.uint8, torch.bool, torch.complex128, *eighths):
        refusal = None
        try:
            outputs = named(case.call(module, tensors | {name: whole.to(dtype)}))
        except ShapeError as error:
            refusal = error
        if refusal is not None:
            assert (refusal.axis, refusal.got) == ("dtype", dtype)
            assert not case.is_loss or re.search(name.replace(" ", ".*"), refusal.side)
        elif dtype in (torch.int64, torch.uint8):
            # Only moved about, or boxes in whole pixels.
            floating = named(case.call(module, tensors | {name: whole.to(torch.float64)}))
            for value, expected in zip(outputs.values(), floating.values(), strict=True):
                torch.testing.assert_close(value.to(torch.float64), expected)
        else:
            assert not case.is_loss


@each_input(CASES)
def test_sparse_tensors_are_refused(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    tensors = case.tensors()
    tensors[name] = tensors[name].detach().to_sparse()
    with pytest.raises(ShapeError) as caught:
        case.call(case.module(), tensors)
    assert (caught.value.axis, caught.value.got) == ("layout", torch.sparse_coo)


@each_input(CASES)
def test_what_is_no_tensor_is_refused(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    for wrong in (None, case.tensors()[name].tolist(), case.tensors()[name].detach().numpy()):
        with pytest.raises(ValueError, match=r"expected|needs") as caught:  # CMDLoss: that the part needs it
            case.call(case.module(), case.tensors() | {name: wrong})  # type: ignore[dict-item]
        assert "\n" not in str(caught.value)


@over([case for case in CASES if any(True for _ in case.module().buffers())])
def test_a_single_value_per_channel_in_training_is_refused_and_leaves_no_trace(case: Case) -> None:
    case.applies("one value per channel")
    sizes = Sizes(batch=1, height=1, width=1)
    module, tensors = case.module(sizes, train=True), case.tensors(sizes)
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(ShapeError, match=r"level|input") as caught:
        case.call(module, tensors)
    assert (caught.value.axis, caught.value.got) == ("values per channel", 1)
    _assert_same_state(module, before)
    assert_finite(case.step(module.eval(), tensors))


@each_input(CASES)
def test_another_device_is_refused(case: Case, name: str) -> None:
    module, tensors = case.module(), case.tensors()
    tensors[name] = tensors[name].to("meta")
    alone = len(case.inputs) == 1 and not any(True for _ in module.parameters())
    unread = f"nan in {name}" in case.exempt and not name.startswith(("mask", "order"))
    if alone or "another device" in case.exempt or unread:
        case.call(module, tensors)
        return
    with pytest.raises(ShapeError) as caught:
        case.call(module, tensors)
    assert caught.value.axis == "device"


@each_input(CASES)
def test_mixed_floating_point_types_are_refused_or_finite(case: Case, name: str) -> None:
    case.applies("mixed types")
    tensors = case.tensors()
    tensors[name] = tensors[name].detach().to(torch.bfloat16).requires_grad_(name in case.students)
    refusal = None
    try:
        assert_finite(case.step(case.module(), tensors))
    except ShapeError as error:
        refusal = error
    assert refusal is None or refusal.axis == "dtype"


def test_an_error_goes_from_process_to_process() -> None:
    error = NotFiniteError("HFRDLoss", "gaussian", "values", expected="finite", got="1 NaN or infinite")
    twin = pickle.loads(pickle.dumps(error))
    assert (type(twin), str(twin), twin.side) == (NotFiniteError, str(error), "gaussian")


@each_input(BLOCKS)
def test_nan_passes_through_a_block(case: Case, name: str) -> None:
    case.applies(f"nan in {name}")
    outputs = named(case.call(case.module(), _spoilt(case, name, torch.nan)))
    assert any(bool(output.isnan().any()) for output in outputs.values())


def _assert_same_state(module: nn.Module, before: dict[str, Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == before.keys()
    assert all(torch.equal(values, before[name]) for name, values in state.items())


def _spoilt(case: Case, name: str, bad: float, position: int = -1) -> dict[str, Tensor]:
    """Return the inputs with one element of one of them spoilt."""
    tensors = case.tensors()
    values = tensors[name].detach().clone()
    values.view(-1)[position] = bad
    return tensors | case.attached({name: values})
