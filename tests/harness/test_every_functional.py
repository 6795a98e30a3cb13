"""Several teachers, several losses, parameters from outside, second derivatives and threads, without a copy by hand."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from harness.case import Case, Sizes, Step, assert_same
from harness.cases import LOSSES, over
from torch import Tensor
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap

from mmdistill import CEM, SEM, ABFChain, Pair, SCFDLoss, ShapeError

# Forward mode loads formulas by way of what PyTorch itself calls deprecated.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
    # Some of PyTorch's own functions are slow under vmap.
    pytest.mark.filterwarnings("ignore:There is a performance drop because:UserWarning"),
]

SIZES = Sizes(batch=2, height=2, width=3)
CLOSE = {"rtol": 1e-9, "atol": 1e-12}
SECOND = {"rtol": 1e-7, "atol": 1e-9}


def with_parameters() -> list[Case]:
    return [case for case in LOSSES if any(True for _ in case.module(SIZES).parameters())]


def constants(case: Case) -> dict[str, Tensor]:
    return {name: values.detach() for name, values in case.tensors(SIZES).items()}


@over(with_parameters())
def test_parameters_may_come_from_outside(case: Case) -> None:
    module = case.module(SIZES)
    given, tensors = {name: values.detach() for name, values in module.named_parameters()}, constants(case)
    other = case.module(SIZES)
    with torch.no_grad():
        for values in other.parameters():
            values.fill_(7)

    def total(parameters: dict[str, Tensor]) -> Tensor:
        def call(*args: object, **kwargs: object) -> object:
            return functional_call(other, parameters, args, kwargs)

        return case.scalar(case.call(call, tensors))

    expected = case.step(module, case.tensors(SIZES)).gradients
    for name, gradient in grad(total)(given).items():
        torch.testing.assert_close(gradient, expected[name], **CLOSE)
    assert all(bool((values == 7).all()) for values in other.parameters())


@over([case for case in LOSSES if case.teachers])
def test_several_teachers_at_once(case: Case) -> None:
    module, tensors = case.module(SIZES), constants(case)
    names, factors = list(tensors), (1.0, 0.5, -2.0)
    both = [torch.stack([x * f for f in factors]) if n in case.teachers else x for n, x in tensors.items()]
    axes = tuple(0 if name in case.teachers else None for name in names)
    students = tuple(names.index(name) for name in case.students)

    def total(*values: Tensor) -> Tensor:
        return case.scalar(case.call(module, dict(zip(names, values, strict=True))))

    values = vmap(total, in_dims=axes)(*both)
    gradients = vmap(grad(total, argnums=students), in_dims=axes)(*both)
    for number, factor in enumerate(factors):
        single = [x * factor if name in case.teachers else x for name, x in tensors.items()]
        torch.testing.assert_close(values[number], total(*single), **CLOSE)
        for got, expected in zip(gradients, grad(total, argnums=students)(*single), strict=True):
            torch.testing.assert_close(got[number], expected, **CLOSE)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
@over([case for case in LOSSES if case.name in ("FitNetsLoss-kernel-1", "SCFDLoss-sem-cem")], SCFDLoss)
@pytest.mark.slow
def test_several_teachers_at_once_compiled(case: Case) -> None:
    module, tensors = case.module(SIZES), constants(case)
    names = list(tensors)

    def total(*values: Tensor) -> Tensor:
        return case.scalar(case.call(module, dict(zip(names, values, strict=True))))

    both = [torch.stack([x, 0.5 * x]) if name in case.teachers else x for name, x in tensors.items()]
    function = vmap(grad(total), in_dims=tuple(0 if name in case.teachers else None for name in names))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*both), function(*both), **CLOSE)


@over(with_parameters())
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_several_losses_at_once(case: Case, train: bool) -> None:
    """Each with parameters and, in training mode, statistics of its own."""
    modules = [case.module(SIZES, train=train) for _ in range(3)]
    with torch.no_grad():
        for number, module in enumerate(modules):
            for values in module.parameters():
                values.mul_(1 + 0.1 * number)
    parameters, buffers = stack_module_state(modules)
    skeleton, tensors = copy.deepcopy(modules[0]).to("meta"), constants(case)

    def total(own: dict[str, Tensor], state: dict[str, Tensor]) -> Tensor:
        def call(*args: object, **kwargs: object) -> object:
            return functional_call(skeleton, (own, state), args, kwargs)

        return case.scalar(case.call(call, tensors))

    found = vmap(total)(parameters, buffers)
    expected = torch.stack([case.scalar(case.call(module, tensors)) for module in modules])
    torch.testing.assert_close(found, expected, **CLOSE)
    for name, values in buffers.items():
        own = torch.stack([dict(module.named_buffers())[name] for module in modules])
        torch.testing.assert_close(values, own, **CLOSE)


def assert_second_derivatives(total: Callable[[Tensor], Tensor], values: Tensor) -> None:
    """Compare all ways that PyTorch has with double backward."""
    expected = torch.autograd.functional.hessian(total, values)  # type: ignore[no-untyped-call]
    for found in (hessian(total), jacrev(jacrev(total)), jacfwd(jacfwd(total)), jacrev(jacfwd(total))):
        torch.testing.assert_close(found(values), expected, **SECOND)


@over(LOSSES)
def test_second_derivatives(case: Case) -> None:
    module, tensors, name = case.module(SIZES), constants(case), case.students[0]
    assert_second_derivatives(lambda x: case.scalar(case.call(module, {**tensors, name: x})), tensors[name])


@pytest.mark.parametrize("subject", [SEM, CEM])
def test_second_derivatives_of_interactions(subject: type) -> None:
    rgb, tir = torch.randn(2, 1, 2, 2, 3, dtype=torch.float64)
    weights = torch.randn(1, 2, 2, 3, dtype=torch.float64)

    def total(x: Tensor) -> Tensor:
        outcome = subject()(Pair(x, tir))
        return (weights * (outcome if isinstance(outcome, Tensor) else outcome[0] + 2 * outcome[1])).sum()

    assert_second_derivatives(total, rgb)


@over(LOSSES)
def test_threads_share_a_loss_in_evaluation_mode(case: Case) -> None:
    module = case.module(SIZES)
    expected, steps = case.step(module, case.tensors(SIZES)), list[Step]()

    def run() -> None:
        steps.extend(case.step(module, case.tensors(SIZES)) for _ in range(3))

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(steps) == 9
    for step in steps:
        assert_same(step, expected, rtol=1e-12, atol=1e-12)


def test_threads_train_a_loss_each() -> None:
    case = next(case for case in LOSSES if case.subject is SCFDLoss)
    modules = [case.module(SIZES, train=True) for _ in range(3)]
    alone, steps = case.module(SIZES, train=True), dict[int, Step]()
    expected = [case.step(alone, case.tensors(SIZES)) for _ in range(4)][-1]

    def run(number: int) -> None:
        steps[number] = [case.step(modules[number], case.tensors(SIZES)) for _ in range(4)][-1]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, module in enumerate(modules):
        assert_same(steps[number], expected, rtol=1e-12, atol=1e-12)
        for name, values in module.named_buffers():
            torch.testing.assert_close(values, dict(alone.named_buffers())[name], rtol=1e-12, atol=1e-12)


def test_several_batches_for_one_state_are_refused_in_training_mode() -> None:
    """Batch norm would keep the statistics of each; nothing of it is changed."""
    loss = SCFDLoss((2,), (3,), interaction=("sem",))
    student, teacher = (torch.rand(2, 2, channels, 4, 4) for channels in (2, 3))

    def total(x: Tensor, y: Tensor) -> Tensor:
        result: Tensor = loss(([x], [x + 1]), ([y], [y + 1])).total
        return result

    before = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    for transform in (vmap(total), vmap(grad(total)), grad(lambda x, y: vmap(total)(x, y).sum())):
        with pytest.raises(ShapeError, match=r"SCFDLoss: student rgb level 1: vmap: .*\.eval\(\).*functional_call"):
            transform(student, teacher)
    assert all(torch.equal(buffer, before[name]) for name, buffer in loss.named_buffers())
    # The teacher's side meets no batch norm.
    assert bool(vmap(total, in_dims=(None, 0))(student[0], teacher).isfinite().all())
    assert bool(vmap(total)(student, teacher).isfinite().all()) if loss.eval() else None


def test_several_batches_for_several_states_but_not_for_each_are_refused() -> None:
    chains = [ABFChain((2,), (3,), 2) for _ in range(2)]
    parameters, buffers = stack_module_state(chains)
    x = torch.rand(4, 2, 2, 3, 3)

    def first(own: dict[str, Tensor], state: dict[str, Tensor], values: Tensor) -> Tensor:
        result: list[Tensor] = functional_call(chains[0], (own, state), ([values],))
        return result[0]

    each = vmap(first, in_dims=(0, 0, None))
    assert each(parameters, buffers, x[0]).shape == (2, 2, 3, 3, 3)
    with pytest.raises(ShapeError, match="ABFChain: level 1: vmap"):
        vmap(each, in_dims=(None, None, 0))(parameters, buffers, x)


@pytest.mark.parametrize("transform", [grad, jacrev, jacfwd, hessian], ids=lambda transform: transform.__name__)
def test_derivatives_that_would_change_batch_norms_state_are_refused(transform: Callable[..., object]) -> None:
    loss = SCFDLoss((2,), (3,), interaction=("sem",))
    x, y = torch.rand(2, 2, 4, 4), torch.rand(2, 3, 4, 4)
    before = {name: buffer.clone() for name, buffer in loss.named_buffers()}

    def total(values: Tensor, *, copied: bool = False) -> Tensor:
        given = (([values], [values + 1]), ([y], [y + 1]))
        state = {name: buffer.clone() for name, buffer in loss.named_buffers()} if copied else {}
        result: Tensor = functional_call(loss, state, given).total
        return result

    with pytest.raises(ShapeError, match=r"SCFDLoss: student rgb level 1: torch.func: .*\.eval\(\).*functional_call"):
        transform(total)(x)  # type: ignore[operator]
    assert bool(transform(partial(total, copied=True))(x).isfinite().all())  # type: ignore[operator]
    assert all(torch.equal(buffer, before[name]) for name, buffer in loss.named_buffers())
    loss.eval()
    assert bool(transform(total)(x).isfinite().all())  # type: ignore[operator]
