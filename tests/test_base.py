"""The optimizer groups of a loss, and the warning where nobody trains its parameters."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable, Iterable

import pytest
import torch
from harness.case import Case
from harness.cases import every_loss
from torch import Tensor, nn
from torch.func import functional_call

from mmdistill import CMDLoss, HFRDLoss, MPSDFusion, MPSDLoss, Pair, SCFDLoss, UnchangedParametersWarning
from mmdistill.base import MAX_UNCHANGED_CALLS, DistillationLoss
from mmdistill.losses import FitNetsLoss, KDLoss

OPTIMIZERS: dict[str, Callable[[list[dict[str, object]]], torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "sgd-fused": lambda groups: torch.optim.SGD(groups, fused=True),
    "adam-single": lambda groups: torch.optim.Adam(groups, foreach=False),
    "adam-foreach": lambda groups: torch.optim.Adam(groups, foreach=True),
    "adam-fused": lambda groups: torch.optim.Adam(groups, fused=True),
}


@every_loss
def test_every_parameter_is_in_one_group(case: Case) -> None:
    loss = case.module()
    if not isinstance(loss, DistillationLoss):
        pytest.skip(f"{case.name} is a loss with a tracker's own predictor around it")
    groups = loss.param_groups(1e-3, weight_decay=1e-2)
    given = [parameter for group in groups for parameter in group["params"]]
    assert len(given) == len({id(parameter) for parameter in given})
    assert {id(parameter) for parameter in given} == {id(parameter) for parameter in loss.parameters()}
    assert all(group["params"] and group["lr"] == 1e-3 for group in groups)
    decay = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    for module in loss.modules():
        for name, parameter in module.named_parameters(recurse=False):
            plain = isinstance(module, nn.BatchNorm2d) or name == "bias"
            assert decay[id(parameter)] == (0.0 if plain else 1e-2), f"{type(module).__name__}.{name}"


def test_groups_leave_out_what_is_frozen_and_take_what_is_shared_once() -> None:
    loss = SCFDLoss((2,), (3,), interaction=("sem",), shared=True)
    before = sum(len(group["params"]) for group in loss.param_groups(1.0))
    loss.chains["both"].requires_grad_(False)
    assert loss.param_groups(1.0) == []
    loss = SCFDLoss((2,), (3,), interaction=("sem",))
    loss.chains["tir"] = loss.chains["rgb"]
    assert sum(len(group["params"]) for group in loss.param_groups(1.0)) == before
    assert KDLoss().param_groups(1.0) == HFRDLoss().param_groups(1.0) == []


def test_an_optimizer_and_a_scheduler_take_the_groups() -> None:
    student, loss = nn.Conv2d(3, 4, 1), FitNetsLoss((4,), (6,))
    groups = [{"params": student.parameters(), "lr": 1e-4}, *loss.param_groups(1e-3, weight_decay=0.1)]
    optimizer = torch.optim.AdamW(groups)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, [1e-4, 1e-3, 1e-3], total_steps=10)
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    loss([student(torch.randn(2, 3, 4, 4))], [torch.randn(2, 6, 4, 4)]).total.backward()
    optimizer.step()
    scheduler.step()
    assert not any(torch.equal(x, y) for x, y in zip(before, loss.parameters(), strict=True))


@pytest.mark.parametrize(("name", "values"), [("lr", (-1.0, float("nan"), "fast")), ("weight_decay", (-1e-9, None))])
def test_wrong_settings_are_named(name: str, values: Iterable[object]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"FitNetsLoss: {name}: expected a number from 0"):
            FitNetsLoss((2,), (3,)).param_groups(**{"lr": 1e-3, name: value})  # type: ignore[arg-type]


def called(
    loss: nn.Module, *, calls: int = MAX_UNCHANGED_CALLS, step: Callable[[Tensor], None] = Tensor.backward
) -> str:
    """Train a loss of ``(2,)`` to ``(3,)`` channels; return what was said of its parameters."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for _ in range(calls):
            step(loss([torch.randn(1, 2, 2, 2, requires_grad=True)], [torch.randn(1, 3, 2, 2)]).total)
    found = [warning for warning in given if warning.category is UnchangedParametersWarning]
    assert all(warning.filename == __file__ for warning in found)
    return "\n".join(str(warning.message) for warning in found)


def test_parameters_that_nobody_trains_are_warned_of_once() -> None:
    loss = FitNetsLoss((2,), (3,))
    assert called(loss, calls=MAX_UNCHANGED_CALLS - 1) == ""
    message = called(loss, calls=1)
    assert "FitNetsLoss: none of its 2 parameters changed in 100 training calls" in message
    assert "loss.param_groups(lr)" in message
    assert called(loss, calls=2 * MAX_UNCHANGED_CALLS) == ""


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_parameters_that_an_optimizer_has_are_not_warned_of(kind: str) -> None:
    loss = FitNetsLoss((2,), (3,))
    optimizer = OPTIMIZERS[kind](loss.param_groups(1e-3))

    def step(total: Tensor) -> None:
        total.backward()
        optimizer.step()
        optimizer.zero_grad()

    assert called(loss, step=step) == ""


def test_a_scaler_and_accumulation_and_a_warm_up_from_zero_are_training() -> None:
    loss = FitNetsLoss((2,), (3,))
    optimizer, scaler, calls = torch.optim.SGD(loss.param_groups(0.0)), torch.amp.GradScaler("cpu"), 0

    def step(total: Tensor) -> None:
        nonlocal calls
        scaler.scale(total).backward()
        calls += 1
        if calls % 60 == 0:
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()

    assert called(loss, step=step) == ""


@pytest.mark.parametrize("how", ["eval", "frozen", "no_grad", "compiled", "functional_call"])
def test_calls_that_train_no_parameter_are_not_counted(how: str) -> None:
    loss: nn.Module = FitNetsLoss((2,), (3,))
    if how == "eval":
        loss.eval()
    elif how == "frozen":
        loss.requires_grad_(False)
    if how == "functional_call":
        own, state = loss, {name: values.detach() for name, values in loss.named_parameters()}
        with warnings.catch_warnings():
            warnings.simplefilter("error", UnchangedParametersWarning)
            for _ in range(MAX_UNCHANGED_CALLS):
                x, y = [torch.randn(1, 2, 2, 2, requires_grad=True)], [torch.randn(1, 3, 2, 2)]
                functional_call(own, state, (x, y)).total.backward()
    elif how == "compiled":
        torch.compiler.reset()
        assert called(torch.compile(loss, fullgraph=True, backend="eager")) == ""  # type: ignore[arg-type]
        torch.compiler.reset()
    else:
        with torch.set_grad_enabled(how != "no_grad"):
            assert called(loss, step=lambda _: None) == ""
    loss.requires_grad_(True).train()
    assert called(loss, calls=MAX_UNCHANGED_CALLS - 1) == ""
    assert called(loss, calls=1) != ""


def test_a_loss_that_is_only_timed_is_not_warned_of() -> None:
    """Nor one that gradcheck calls: backward never came to its parameters."""
    assert called(FitNetsLoss((2,), (3,)), calls=2 * MAX_UNCHANGED_CALLS, step=lambda _: None) == ""


def test_a_copy_starts_anew_and_the_state_stays_what_it_was() -> None:
    loss = FitNetsLoss((2,), (3,))
    names = set(loss.state_dict())
    called(loss, calls=MAX_UNCHANGED_CALLS - 1)
    assert set(loss.state_dict()) == names
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert called(twin, calls=MAX_UNCHANGED_CALLS - 1) == ""
        assert called(twin, calls=1) != ""
    assert called(loss, calls=1) != ""


def test_the_whole_speaks_for_its_parts() -> None:
    fusion = MPSDFusion(2)
    loss = CMDLoss(SCFDLoss((2,), (3,), interaction=("sem",)), MPSDLoss((2,), (3,)))
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        for _ in range(MAX_UNCHANGED_CALLS):
            rgb, tir = torch.randn(2, 1, 2, 2, 2, requires_grad=True)
            teacher = torch.randn(2, 1, 3, 2, 2)
            terms = loss(
                student_features=Pair([rgb], [tir]),
                teacher_features=Pair([teacher[0]], [teacher[1]]),
                student_fused=[fusion(Pair(rgb, tir))],
                teacher_fused=[teacher[0]],
            )
            terms.total.backward()
    said = [str(warning.message) for warning in given if warning.category is UnchangedParametersWarning]
    number = len(list(loss.parameters()))
    assert len(said) == 1
    assert f"CMDLoss: none of its {number} parameters changed in 100 training calls" in said[0]
