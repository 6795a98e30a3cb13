"""Gradients are right, reach what they should, and nothing else."""

from __future__ import annotations

import re

import pytest
import torch
from harness.case import Case, Sizes
from harness.cases import every_block, every_case, every_loss
from torch import Tensor
from torch.func import functional_call

from mmdistill import DeadTermWarning, Terms


@every_case
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_first_and_second_derivatives_agree_with_finite_differences(case: Case, train: bool) -> None:
    case.applies("finite differences")
    sizes = Sizes(height=4, width=6)
    module, tensors = case.module(sizes, train=train), case.tensors(sizes)
    normalizes = any(hasattr(part, "running_mean") for part in module.modules())
    if train and not normalizes:
        pytest.skip(f"{case.name} is the same in training: it has no batch norm")
    learners = case.learners(module, tensors)
    learners = {name: values for name, values in learners.items() if re.fullmatch(case.differentiable, name)}

    def scalar(*values: Tensor) -> Tensor:
        given = dict(zip(learners, values, strict=True))
        parameters = {name: given.get(name, values) for name, values in module.named_parameters()}

        def replaced(*args: object, **kwargs: object) -> object:
            return functional_call(module, parameters, args, kwargs)

        return case.scalar(case.call(replaced, {name: given.get(name, tensors[name]) for name in tensors}))

    assert torch.autograd.gradcheck(scalar, tuple(learners.values()), fast_mode=True)
    if train or not normalizes:
        assert torch.autograd.gradgradcheck(scalar, tuple(learners.values()), fast_mode=True)


@every_loss
def test_each_term_teaches_what_it_should_and_neither_teacher_nor_label(case: Case) -> None:
    sizes = Sizes(batch=4)
    module, tensors = case.module(sizes, train=True), case.tensors(sizes)
    constants = {name: tensors[name].requires_grad_() for name in tensors if name not in case.students}
    terms = case.call(module, tensors)
    assert isinstance(terms, Terms)
    watched = case.learners(module, tensors) | constants
    for term, value in terms.items():
        gradients = torch.autograd.grad(value, list(watched.values()), retain_graph=True, allow_unused=True)
        reached = {name for name, gradient in zip(watched, gradients, strict=True) if _teaches(gradient)}
        assert reached == {name for name in watched if re.fullmatch(case.reaches[term], name)}, term


@every_case
def test_every_own_parameter_is_trained(case: Case) -> None:
    sizes = Sizes(batch=4)
    module = case.module(sizes, train=True)
    gradients = case.step(module, case.tensors(sizes)).gradients
    idle = [name for name, _ in module.named_parameters() if not _teaches(gradients[name])]
    assert not idle, f"no gradient for {idle}"


@every_block
def test_a_block_teaches_every_input(case: Case) -> None:
    gradients = case.step(case.module(), case.tensors()).gradients
    assert all(_teaches(gradients[name]) for name in case.students)


@every_loss
@pytest.mark.filterwarnings("error::mmdistill.errors.DeadTermWarning")
def test_dead_inputs_are_warned_of_and_live_ones_are_not(case: Case) -> None:
    case.applies("dead inputs")
    module, tensors = case.module(), case.tensors()
    case.call(module, tensors)
    with torch.no_grad():
        case.call(module, {name: values.detach() for name, values in tensors.items()})
    with pytest.warns(DeadTermWarning, match="no student input requires gradient"):
        case.call(module, {name: values.detach() for name, values in tensors.items()})


def _teaches(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.any())
