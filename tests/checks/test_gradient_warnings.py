"""A level or modality without gradient, among others that have one, is named where the loss is called."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdistill import DeadTermWarning, MPSDFusion, MPSDLoss, Pair, SCFDLoss
from mmdistill.losses import FitNetsLoss, ModalityDistillationLoss, ReviewKDLoss

CHANNELS = (2, 3)
SCFD: dict[str, Any] = {"interaction": ("sem", "cem")}


def run(loss: nn.Module, *inputs: object) -> list[str]:
    """Return what the loss warns of, each time it is called from this line."""
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        loss(*inputs).total.backward()
    assert all(each.category is DeadTermWarning and each.filename == __file__ for each in given)
    return [str(each.message) for each in given]


class Backbone(nn.Module):
    """Two blocks; the first one's stem is frozen, as often is, so a reentrant checkpoint gets no gradient to carry."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 1).requires_grad_(False)
        self.first, self.second = nn.Conv2d(2, CHANNELS[0], 1), nn.Conv2d(2, CHANNELS[1], 2, 2)

    def forward(self, x: Tensor, *, reentrant: bool | None = None) -> list[Tensor]:
        x = self.stem(x)
        if reentrant is None:
            return [self.first(x), self.second(x)]
        return [checkpoint(self.first, x, use_reentrant=reentrant), self.second(x)]


def images() -> Tensor:
    return torch.randn(2, 1, 8, 6)


def teacher() -> list[Tensor]:
    return [torch.randn(2, CHANNELS[0], 8, 6), torch.randn(2, CHANNELS[1], 4, 3)]


def named(messages: Sequence[str]) -> list[str]:
    """Return the loss and the input that each message names."""
    assert all("requires no gradient but other student inputs do" in message for message in messages)
    return [message.partition(" requires no")[0] for message in messages]


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_a_block_in_a_reentrant_checkpoint_is_named() -> None:
    backbone, loss = Backbone(), SCFDLoss(CHANNELS, CHANNELS, **SCFD)

    def student(reentrant: bool) -> Pair[list[Tensor]]:
        return Pair(backbone(images(), reentrant=reentrant), backbone(images()))

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="None of the inputs have requires_grad")  # PyTorch's own word of it
        broken = student(True)
    assert named(run(loss, broken, Pair(teacher(), teacher()))) == ["SCFDLoss: student rgb level 1"]
    assert run(loss, student(False), Pair(teacher(), teacher())) == []


def test_a_detached_level_and_a_modality_under_no_grad_are_named() -> None:
    backbone, loss = Backbone(), SCFDLoss(CHANNELS, CHANNELS, **SCFD)
    rgb = backbone(images())
    with torch.no_grad():
        tir = backbone(images())
    assert named(run(loss, Pair(rgb, tir), Pair(teacher(), teacher()))) == [
        "SCFDLoss: student tir level 1",
        "SCFDLoss: student tir level 2",
    ]
    rgb, tir = backbone(images()), backbone(images())
    tir[1] = tir[1].detach()
    assert named(run(loss, Pair(rgb, tir), Pair(teacher(), teacher()))) == ["SCFDLoss: student tir level 2"]


LOSSES: dict[str, Callable[..., nn.Module]] = {
    "FitNetsLoss": FitNetsLoss,
    "ReviewKDLoss": ReviewKDLoss,
    "ModalityDistillationLoss": ModalityDistillationLoss,
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_over_levels_names_the_dead_one_and_takes_frozen_ones(name: str) -> None:
    levels = Backbone()(images())
    levels[0] = levels[0].detach()
    assert named(run(LOSSES[name](CHANNELS, CHANNELS), levels, teacher())) == [f"{name}: student level 1"]
    again = [levels[0], levels[1].detach().requires_grad_()]
    assert run(LOSSES[name](CHANNELS, CHANNELS, frozen_levels=(1,)), again, teacher()) == []
    swapped = [again[1], again[0]]
    loss = LOSSES[name](CHANNELS[::-1], CHANNELS[::-1], frozen_levels=[1])
    other = [x[..., :3, :3] for x in swapped]
    assert named(run(loss, other, [x[..., :3, :3] for x in teacher()[::-1]])) == [f"{name}: student level 2"]


def test_frozen_levels_of_both_modalities_say_nothing_and_the_others_do() -> None:
    rgb, tir = Backbone()(images()), Backbone()(images())
    stem = [rgb[0].detach(), rgb[1]], [tir[0].detach(), tir[1]]
    loss = SCFDLoss(CHANNELS, CHANNELS, frozen_levels=(1,), **SCFD)
    assert run(loss, Pair(*stem), Pair(teacher(), teacher())) == []
    dead = Pair([rgb[0].detach(), rgb[1].detach().requires_grad_()], [tir[0].detach(), tir[1].detach()])
    assert named(run(loss, dead, Pair(teacher(), teacher()))) == ["SCFDLoss: student tir level 2"]
    everything = Pair(*([x.detach() for x in modality] for modality in dead))
    [message] = run(loss, everything, Pair(teacher(), teacher()))
    assert message.startswith("SCFDLoss: no student input requires gradient")


def test_level_eleven_is_not_level_one() -> None:
    loss = FitNetsLoss((1,) * 11, (2,) * 11, frozen_levels=(1,))
    levels = [torch.randn(1, 1, 2, 2, requires_grad=number not in (1, 11)) for number in range(1, 12)]
    assert named(run(loss, levels, [torch.randn(1, 2, 2, 2) for _ in levels])) == ["FitNetsLoss: student level 11"]


def test_mpsd_names_what_of_a_level_is_dead() -> None:
    fusions = [MPSDFusion(2), MPSDFusion(3)]
    maps = [Pair(*torch.randn(2, 2, channels, 4, 4)) for channels in CHANNELS]
    target = [torch.randn(2, channels, 4, 4) for channels in CHANNELS]

    def fused() -> list[Any]:
        return [fusion(pair) for fusion, pair in zip(fusions, maps, strict=True)]

    first, second = fused()
    loss = MPSDLoss(CHANNELS, CHANNELS)
    detached = second._replace(fused=second.fused.detach(), paths=second.paths.detach())
    assert named(run(loss, [first, detached], target)) == ["MPSDLoss: student fused level 2"]
    attached = MPSDLoss(CHANNELS, CHANNELS, detach_path_loss=False)
    first, second = fused()
    first = first._replace(paths=first.paths.clone().requires_grad_())  # of inputs that require none
    second = second._replace(paths=second.paths.detach(), weights=second.weights.detach())
    assert named(run(attached, [first, second], target)) == [
        "MPSDLoss: student paths level 2",
        "MPSDLoss: student weights level 2",
    ]
    first, second = fused()
    dead = second._replace(fused=second.fused.detach(), weights=second.weights.detach())
    assert run(MPSDLoss(CHANNELS, CHANNELS, frozen_levels=(2,)), [first, dead], target) == []


@pytest.mark.parametrize(
    "make",
    [
        lambda frozen: SCFDLoss(CHANNELS, CHANNELS, frozen_levels=frozen, **SCFD),
        lambda frozen: MPSDLoss(CHANNELS, CHANNELS, frozen_levels=frozen),
        *(lambda frozen, loss=loss: loss(CHANNELS, CHANNELS, frozen_levels=frozen) for loss in LOSSES.values()),
    ],
)
def test_levels_that_are_not_there_are_refused(make: Callable[[object], nn.Module]) -> None:
    for wrong in ((0,), (3,), (1.5,), "1", 1, [True]):
        with pytest.raises(ValueError, match=r"frozen_levels.*: expected"):
            make(wrong)
    assert make([2, 1]).frozen_levels == (2, 1)
    assert make([]).frozen_levels == ()


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore", "error::mmdistill.errors.DeadTermWarning")  # PyTorch's own while it traces
def test_nothing_is_said_without_gradients_and_inside_transforms_and_compiled_code() -> None:
    loss = FitNetsLoss(CHANNELS, CHANNELS)
    alive, dead = torch.randn(2, CHANNELS[0], 8, 6, requires_grad=True), torch.randn(2, CHANNELS[1], 4, 3)
    target = teacher()
    with torch.no_grad():
        loss([alive, dead], target)
    torch.compile(loss, backend="eager")([alive, dead], target)
    torch.func.grad(lambda x: loss([x, dead], target).total)(alive)
    torch.func.jvp(lambda x: loss([x, dead], target).total, (alive.detach(),), (alive.detach(),))
