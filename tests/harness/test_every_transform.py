"""The transforms of torch.func, forward mode and the meta device give what plain PyTorch gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.autograd.forward_ad as forward_mode
from harness.case import Case, Sizes
from harness.cases import CASES, every_loss, over
from helpers import pyramids
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad_and_value, jvp, vmap

from mmdistill import SCFDLoss

# Forward mode loads formulas by way of what PyTorch itself calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")

SIZES = Sizes(height=4, width=6)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}


def pure(case: Case, *, train: bool = False) -> tuple[Callable[..., Tensor], dict[str, Tensor], tuple[int, ...]]:
    """Return the case's scalar as a function of its inputs, the inputs, and the places of the student's."""
    module, tensors = case.module(SIZES, train=train), case.tensors(SIZES)
    names = list(tensors)

    def scalar(*values: Tensor) -> Tensor:
        state = {name: buffer.clone() for name, buffer in module.named_buffers()}

        def call(*args: object, **kwargs: object) -> object:
            return functional_call(module, state, args, kwargs)

        return case.scalar(case.call(call, dict(zip(names, values, strict=True))))

    students = tuple(names.index(name) for name in case.students)
    return scalar, {name: values.detach() for name, values in tensors.items()}, students


def by_autograd(scalar: Callable[..., Tensor], values: list[Tensor], students: tuple[int, ...]) -> list[Tensor]:
    leaves = [value.clone().requires_grad_(place in students) for place, value in enumerate(values)]
    gradients = torch.autograd.grad(scalar(*leaves), [leaves[place] for place in students], materialize_grads=True)
    return list(gradients)


@over(CASES)
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_gradients_and_tangents_are_those_of_autograd(case: Case, train: bool) -> None:
    if train and not any(True for _ in case.module().buffers()):
        pytest.skip(f"{case.name} is the same in training: it has no batch norm")
    scalar, tensors, students = pure(case, train=train)
    values = list(tensors.values())
    expected, value = by_autograd(scalar, values, students), scalar(*values)
    gradients, found = grad_and_value(scalar, argnums=students)(*values)
    torch.testing.assert_close(found, value, **CLOSE)
    for mine, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)
    slope = torch.stack([gradient.sum() for gradient in expected]).sum()
    tangents = tuple(torch.full_like(x, float(place in students)) for place, x in enumerate(values))
    found, tangent = jvp(scalar, tuple(values), tangents)
    torch.testing.assert_close((found, tangent), (value, slope), rtol=1e-8, atol=1e-10)
    with forward_mode.dual_level():
        dual = [forward_mode.make_dual(x, tangent) for x, tangent in zip(values, tangents, strict=True)]
        found, tangent = forward_mode.unpack_dual(scalar(*dual))
    torch.testing.assert_close((found, tangent), (value, slope), rtol=1e-8, atol=1e-10)


@over(CASES)
def test_vmap_gives_each_its_own_value(case: Case) -> None:
    scalar, tensors, _ = pure(case)
    both = [torch.stack([values, 0.5 * values + 0.1]) for values in tensors.values()]
    # A block's outputs are projected in random directions, the same for all.
    found = vmap(scalar, randomness="same")(*both)
    expected = torch.stack([scalar(*(values[number] for values in both)) for number in (0, 1)])
    torch.testing.assert_close(found, expected, **CLOSE)


@over(CASES)
def test_shapes_alone_go_through(case: Case) -> None:
    tensors = case.tensors(SIZES)
    on_meta = {name: values.to("meta") for name, values in tensors.items()}
    for train in (False, True):
        assert case.scalar(case.call(case.module(SIZES, train=train).to("meta"), on_meta)).is_meta
    module = case.module(SIZES)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        outcome = case.call(module, {name: mode.from_tensor(x) for name, x in tensors.items()})
        assert type(case.scalar(outcome)).__name__ == "FakeTensor"


@every_loss
def test_a_transform_of_a_loss_warns_of_nothing(case: Case, recwarn: pytest.WarningsRecorder) -> None:
    scalar, tensors, students = pure(case)
    grad_and_value(scalar, argnums=students)(*tensors.values())
    assert not [str(warning.message) for warning in recwarn if "mmdistill" in str(warning.category)]


def test_sampled_positions_are_drawn_inside_a_transform_too() -> None:
    loss = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem"), sampling=1 / 4).double()
    student, teacher = (pyramids(channels, (8, 8), dtype=torch.float64) for channels in ((2, 3), (3, 4)))

    def total(values: Tensor) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in loss.named_buffers()}
        given = (student._replace(rgb=[values, student.rgb[1]]), teacher)
        result: Tensor = functional_call(loss, buffers, given).total
        return result

    gradient, value = grad_and_value(total)(student.rgb[0])
    assert bool(value.isfinite())
    assert int(gradient.count_nonzero()) > 0
    assert bool(gradient.isfinite().all())
