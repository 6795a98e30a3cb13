"""A small two-modality student with taps, and the ways a trainer wraps it: DDP, FSDP2 and checkpointing."""

from __future__ import annotations

import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmdistill import (
    CMDLoss,
    FeatureTaps,
    FusedPaths,
    HFRDLoss,
    MPSDFusion,
    MPSDLoss,
    Pair,
    SCFDLoss,
    Terms,
    UnchangedParametersWarning,
)
from mmdistill.base import MAX_UNCHANGED_CALLS
from mmdistill.losses import FitNetsLoss

TAPPED = ("shallow", "neck")
SAMPLES = 4


class Batch(NamedTuple):
    """What a step is given: images of both modalities, and what the teacher and the labels say."""

    rgb: Tensor
    tir: Tensor
    shallow: Pair[Tensor]
    deep: Pair[Tensor]
    fused: Tensor
    response: Tensor
    gaussian: Tensor


class Student(nn.Module):
    """One trunk for both modalities; the ``neck`` is reached by a tap alone, never by the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.shallow = nn.Conv2d(3, 4, 3, padding=1)
        self.deep = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True))
        self.neck = nn.Conv2d(4, 8, 1)
        self.fusion = MPSDFusion(4)
        self.head = nn.Conv2d(4, 1, 1)

    def forward(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, FusedPaths]:
        deep = [self.deep(self.shallow(images)) for images in (rgb, tir)]
        for features in deep:
            self.neck(features)
        fused = self.fusion(Pair(*deep))
        return self.head(fused.fused)[:, 0], fused


class Step(nn.Module):
    """Student and loss in one module, which calls both."""

    def __init__(self, student: nn.Module, loss: nn.Module) -> None:
        super().__init__()
        self.student, self.loss = student, loss

    def forward(self, batch: Batch) -> Terms:
        return distill(self.student, self.loss, batch)


def distill(student: nn.Module, loss: nn.Module, batch: Batch) -> Terms:
    """Call the student with taps, and the loss with all that it may ask for."""
    with FeatureTaps(student, TAPPED) as taps:
        response, fused = student(batch.rgb, batch.tir)
    levels = Pair(*([taps.calls(name)[modality] for name in TAPPED] for modality in (0, 1)))
    teacher = Pair(*([batch.shallow[modality], batch.deep[modality]] for modality in (0, 1)))
    part = getattr(loss, "module", loss)
    given: dict[str, Any] = {}
    if part.scfd is not None:
        given |= {"student_features": levels, "teacher_features": teacher}
    if part.mpsd is not None:
        given |= {"student_fused": [fused], "teacher_fused": [batch.fused]}
    if part.hfrd is not None:
        given |= {"student_response": response, "teacher_response": batch.response, "gaussian": batch.gaussian}
    terms: Terms = loss(**given)
    return terms


def student_and_loss(parts: str = "scfd mpsd hfrd") -> tuple[Student, CMDLoss]:
    """Return both with the same parameters every time, in evaluation mode: batch norm is each process's own."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = {
            "scfd": SCFDLoss((4, 8), (6, 10), mid_channels=4, interaction=("sem", "cem")),
            "mpsd": MPSDLoss((4,), (6,)),
            "hfrd": HFRDLoss(),
        }
        loss = CMDLoss(**{name: made[name] for name in parts.split()}, alpha=1.0)  # type: ignore[arg-type]
        return Student().double().eval(), loss.double().eval()


def batch_of(samples: slice = slice(None)) -> Batch:
    """Return some of the same samples."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(SAMPLES, *shape, generator=generator, dtype=torch.float64)[samples]

    def both(*shape: int) -> Pair[Tensor]:
        return Pair(draw(*shape), draw(*shape))

    images, shallow, deep = both(3, 8, 12), both(6, 8, 12), both(10, 4, 6)
    return Batch(*images, shallow, deep, draw(6, 4, 6), draw(4, 6), draw(4, 6))


Gradients = dict[str, Tensor]


def gradients(student: nn.Module, loss: nn.Module) -> Gradients:
    """Return every parameter's gradient by its plain name, the whole of what is sharded."""
    found: Gradients = {}
    for side, module in (("student", student), ("loss", loss)):
        for name, parameter in module.named_parameters():
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            whole: Tensor = gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient
            found[f"{side}.{name.replace('module.', '')}"] = whole.detach().clone()
    return found


def alone(parts: str = "scfd mpsd hfrd") -> tuple[Tensor, Gradients]:
    """Return the total and the gradients of plain PyTorch on the joined batch."""
    student, loss = student_and_loss(parts)
    total = distill(student, loss, batch_of()).total
    total.backward()
    return total.detach(), gradients(student, loss)


@dataclass(frozen=True)
class Wrapping:
    """How a trainer wraps both: it returns what computes the terms of a batch."""

    name: str
    wrap: Callable[[Student, CMDLoss], Callable[[Batch], Terms]]
    parts: str = "scfd mpsd hfrd"


def _ddp(**options: bool) -> Callable[[Student, CMDLoss], Callable[[Batch], Terms]]:
    def wrap(student: Student, loss: CMDLoss) -> Callable[[Batch], Terms]:
        wrapped = DistributedDataParallel(student, **options), DistributedDataParallel(loss)
        return lambda batch: distill(*wrapped, batch)

    return wrap


def _ddp_of_step(**options: bool) -> Callable[[Student, CMDLoss], Callable[[Batch], Terms]]:
    return lambda student, loss: DistributedDataParallel(Step(student, loss), **options)


def _fsdp(student: Student, loss: CMDLoss) -> Callable[[Batch], Terms]:
    from torch.distributed.fsdp import fully_shard

    for module in (student.shallow, student.deep, student, loss):
        fully_shard(module)
    return lambda batch: distill(student, loss, batch)


def _fsdp_of_step(student: Student, loss: CMDLoss) -> Callable[[Batch], Terms]:
    from torch.distributed.fsdp import fully_shard

    step = Step(student, loss)
    for module in (student.neck, step):
        fully_shard(module)
    return step


def _fsdp_of_host(student: Student, loss: CMDLoss) -> Callable[[Batch], Terms]:
    """The student is a block that lets go of its weights after its forward; tapped layers are blocks of their own."""
    from torch.distributed.fsdp import fully_shard

    step = Step(student, loss)
    for module in (*(student.get_submodule(name) for name in TAPPED), student.deep):
        fully_shard(module, reshard_after_forward=True)
    fully_shard(student, reshard_after_forward=True)
    fully_shard(step)
    return step


def _fsdp_of_loss(student: Student, loss: CMDLoss) -> Callable[[Batch], Terms]:
    from torch.distributed.fsdp import fully_shard

    fully_shard(loss)
    wrapped = DistributedDataParallel(student)
    return lambda batch: distill(wrapped, loss, batch)


FIND_UNUSED = Wrapping("ddp find_unused_parameters", _ddp(find_unused_parameters=True))
"""The one that PyTorch refuses: at the end of the student's forward it takes the neck for unused."""

WRAPPINGS = [
    Wrapping("ddp", _ddp()),
    Wrapping("ddp static_graph", _ddp(static_graph=True)),
    Wrapping("ddp both", _ddp(static_graph=True, find_unused_parameters=True)),
    Wrapping("ddp of step", _ddp_of_step()),
    Wrapping("ddp of step find_unused_parameters", _ddp_of_step(find_unused_parameters=True)),
    Wrapping("ddp of step static_graph", _ddp_of_step(static_graph=True)),
    Wrapping("fsdp", _fsdp),
    Wrapping("fsdp scfd", _fsdp, "scfd"),
    Wrapping("fsdp mpsd", _fsdp, "mpsd"),
    Wrapping("fsdp of step", _fsdp_of_step),
    Wrapping("fsdp of host", _fsdp_of_host, "scfd"),
    Wrapping("fsdp of loss, ddp of student", _fsdp_of_loss),
]


def wrapped(wrapping: Wrapping, rank: int, ranks: int) -> dict[str, Gradients] | str:
    """Return the third step's total and gradients: DDP decides in the first two what has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch's own, of static graphs and of views
            return _third_step(wrapping, rank, ranks)
    except Exception:
        return traceback.format_exc()


def _third_step(wrapping: Wrapping, rank: int, ranks: int) -> dict[str, Gradients]:
    student, loss = student_and_loss(wrapping.parts)
    share = SAMPLES // ranks
    step, batch = wrapping.wrap(student, loss), batch_of(slice(rank * share, (rank + 1) * share))
    for _ in range(3):
        for parameter in [*student.parameters(), *loss.parameters()]:
            parameter.grad = None
        total = step(batch).total
        total.backward()
    return {"outputs": {"total": total.detach()}, "gradients": gradients(student, loss)}


def watched() -> Iterator[tuple[str, dict[str, Gradients]]]:
    """Yield, by wrapping and by whether an optimizer has the loss's parameters, how many warnings were given."""
    from torch.distributed.fsdp import fully_shard

    def ddp(loss: nn.Module) -> nn.Module:
        return DistributedDataParallel(loss)

    for name, wrap in (("ddp", ddp), ("fsdp", fully_shard)):
        for trained in (True, False):
            loss = FitNetsLoss((2,), (4,))
            call = wrap(loss)
            optimizer = torch.optim.AdamW(loss.param_groups(1e-3 if trained else 0.0))
            with warnings.catch_warnings(record=True) as given:
                warnings.simplefilter("always")
                for _ in range(MAX_UNCHANGED_CALLS):
                    features = [torch.randn(2, 2, 2, 2, requires_grad=True)]
                    call(features, [torch.randn(2, 4, 2, 2)]).total.backward()  # type: ignore[operator]
                    if trained:
                        optimizer.step()
                        optimizer.zero_grad()
            number = sum(each.category is UnchangedParametersWarning for each in given)
            yield f"watch {name} {trained}", {"outputs": {"warnings": torch.tensor(number)}}
