"""Tensors made in ``torch.inference_mode`` are constants, a list of maps may be a tuple, and other types are named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from harness.case import Case, assert_same, named
from harness.cases import CASES, every_case
from torch import Tensor
from torch.utils import _pytree as pytree

from mmdistill import BBEDistiller, ShapeError, TCLDistiller

pytestmark = pytest.mark.filterwarnings("ignore::mmdistill.DeadTermWarning")
EXACT = {"rtol": 0.0, "atol": 0.0}


def in_inference_mode(values: Tensor) -> Tensor:
    """Return the same values, laid out channels last where it is a map: then no layer makes a copy of its own."""
    with torch.inference_mode():
        copy = values.detach().clone()
        return copy.contiguous(memory_format=torch.channels_last) if copy.ndim == 4 else copy


@every_case
def test_teachers_and_labels_may_be_made_in_inference_mode(case: Case) -> None:
    tensors = case.tensors()
    constants = {name: in_inference_mode(values) for name, values in tensors.items() if name not in case.students}
    if not constants:
        pytest.skip(f"{case.name} has students alone")
    module = case.module()
    step = case.step(module, tensors | constants)
    assert_same(step, case.step(module, tensors), rtol=1e-12, atol=1e-14)
    for name in constants:
        assert_same(case.step(module, tensors | {name: constants[name]}), step, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("case", "name"), [pytest.param(c, name, id=f"{c.name}-{name}") for c in CASES for name in c.students]
)
def test_a_student_made_in_inference_mode_is_one_without_gradient(case: Case, name: str) -> None:
    found: list[dict[str, Tensor]] = []
    for constant in (in_inference_mode, Tensor.detach):
        module, tensors = case.module(), case.tensors()
        tensors[name] = constant(tensors[name])
        outcome = case.call(module, tensors)
        learners = [values for values in case.learners(module, tensors).values() if values.requires_grad]
        if case.scalar(outcome).requires_grad:
            gradients = torch.autograd.grad(case.scalar(outcome), learners, materialize_grads=True)
        else:
            gradients = ()
        found.append(named(outcome) | {f"gradient {number}": values for number, values in enumerate(gradients)})
    assert found[0].keys() == found[1].keys()
    for key, values in found[0].items():
        torch.testing.assert_close(values, found[1][key], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "other", [lambda x: [x], lambda x: {"x": x}, lambda x: x.detach().numpy()], ids=["list", "dict", "numpy"]
)
@every_case
def test_another_type_where_a_tensor_is_expected_is_refused_by_name(case: Case, other: Callable[..., object]) -> None:
    # Iterates and masks of a pyramid may be a list; a predictor takes what it likes; an order makes an index.
    own = {TCLDistiller: "filters|mask", BBEDistiller: "modulation|features"}.get(case.subject, "mask|order")
    for name in case.inputs:
        if not re.match(own, name):
            tensors: dict[str, Any] = case.tensors()
            tensors[name] = other(tensors[name])
            with pytest.raises(ShapeError, match=type(tensors[name]).__name__) as caught:
                case.call(case.module(), tensors)
            assert caught.value.axis == "type"


def lists(arguments: object, replace: Callable[[list[Any]], object]) -> object:
    """Return the arguments with every list of tensors replaced."""
    return pytree.tree_map(
        lambda value: replace(value) if isinstance(value, list) else value,
        arguments,
        is_leaf=lambda value: isinstance(value, list),
    )


def calling(module: Any, replace: Callable[[list[Any]], object]) -> Callable[..., object]:
    def call(*args: object, **kwargs: object) -> object:
        args, kwargs = lists((args, kwargs), replace)  # type: ignore[misc]
        return module(*args, **kwargs)

    return call


def takes_lists(case: Case) -> bool:
    seen: list[object] = []
    case.step(
        case.module(), case.tensors(), through=calling(case.module(), lambda values: seen.append(values) or values)
    )
    return bool(seen)


LISTS = [case for case in CASES if takes_lists(case)]
over_lists = pytest.mark.parametrize("case", LISTS, ids=[case.name for case in LISTS])


@over_lists
def test_a_list_may_be_a_tuple(case: Case) -> None:
    module, tensors = case.module(), case.tensors()
    assert_same(case.step(module, tensors, through=calling(module, tuple)), case.step(module, tensors), **EXACT)


@over_lists
def test_levels_stacked_in_one_tensor_or_in_a_mapping_are_refused_by_name(case: Case) -> None:
    if case.subject in (TCLDistiller, BBEDistiller):
        pytest.skip("iterates may be stacked; modulation and features are whatever the predictor takes")
    module, tensors = case.module(), case.tensors()
    for replace in (lambda values: torch.zeros(len(values), 2, 3, 4, 5), lambda values: dict(enumerate(values))):
        with pytest.raises(ShapeError) as caught:
            case.call(calling(module, replace), tensors)
        assert caught.value.axis == "type"
        assert caught.value.got in ("Tensor", "dict")
