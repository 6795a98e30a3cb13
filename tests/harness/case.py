"""A case: one public loss or block, and what a check must know to call it at any size, dtype and scale.

Sizes are letters: B batch, C student channels, D teacher channels, H height, W width, N tokens (H times W).
An axis is a number or a letter, with a factor before it and a divisor (rounded up) or ``+1`` behind it:
``"B 2C H/2 W/2"`` is a second level, ``"B H+1 W+1"`` the scores of an even filter.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mmdistill import Terms

Tensors = Mapping[str, Tensor]
"""A case's inputs by name."""

AXIS = re.compile(r"(\d*)([A-Z]?)(?:/(\d+))?(\+1)?")


@dataclass(frozen=True)
class Sizes:
    """What the letters stand for."""

    batch: int = 2
    height: int = 6
    width: int = 8
    student: int = 2
    teacher: int = 3

    def shape(self, axes: str) -> tuple[int, ...]:
        return tuple(self._size(axis) for axis in axes.split())

    def _size(self, axis: str) -> int:
        match = AXIS.fullmatch(axis)
        assert match, f"no axis: {axis!r}"
        factor, letter, divisor, more = match.groups()
        letters = {
            "B": self.batch,
            "C": self.student,
            "D": self.teacher,
            "H": self.height,
            "W": self.width,
            "N": self.height * self.width,
            "": 1,
        }
        return -(-int(factor or 1) * letters[letter] // int(divisor or 1)) + bool(more)


def pyramid(s: Sizes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the channels of two levels, the student's and the teacher's."""
    return (s.student, 2 * s.student), (s.teacher, 2 * s.teacher)


SIZES = Sizes()

NOT_COUNTING = 0.5


def normal(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def boxes(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """``x y w h``, of which any two overlap."""
    return torch.tensor([0.0, 0.0, 10.0, 10.0]) + 8 * uniform(shape, generator)


def shares(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Weights of the paths, which add up to one over axis 1."""
    return normal(shape, generator).softmax(dim=1)


def marked(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Numbers that ``counting`` makes a mask of; a third of the positions doesn't count, each map's first does."""
    values = torch.where(uniform(shape, generator) < 0.3, NOT_COUNTING, 1.0)
    values[..., :1, :1] = 1.0
    return values


def counting(values: Tensor) -> Tensor:
    """Return the mask ``marked`` stands for; constant maps of other numbers count everywhere."""
    return in_mode_of(values, lambda: values != NOT_COUNTING)


def in_mode_of(values: Tensor, make: Callable[[], Tensor]) -> Tensor:
    """Return what is made, in ``torch.inference_mode`` where these values were."""
    if torch.compiler.is_compiling() or not values.is_inference():
        return make()
    with torch.inference_mode():
        return make()


def samples(values: Tensor, axes: str, chosen: Tensor) -> Tensor:
    """Return the chosen samples; everything where there is no batch axis."""
    return values.index_select(axes.split().index("B"), chosen) if "B" in axes.split() else values


@dataclass(frozen=True)
class Input:
    """One tensor that a loss or block is given.

    Attributes:
        axes: its shape in letters.
        role: a student's carries gradient; a teacher's is detached by the loss; a label is neither.
        draw: random values of a shape.
        scaled: whether the scale of the features applies to it; labels and shares have their own.
        independent: its axes that need agree with nothing else the call is given: letters, or whole axes.
    """

    axes: str
    role: Literal["student", "teacher", "label"] = "student"
    draw: Callable[[tuple[int, ...], torch.Generator], Tensor] = normal
    scaled: bool = True
    independent: str = ""


@dataclass(frozen=True)
class Step:
    """What one step gave: the outputs by name, and the gradient of every student input and own parameter."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """One public loss or block in one variant.

    Attributes:
        subject: the public class or function.
        build: makes the module for these sizes.
        inputs: every tensor it is given, by name.
        call: hands the tensors over as the subject wants them.
        variant: which arguments, where there are several cases of a subject.
        outputs: a block's outputs in order, as shapes in letters; a loss gives Terms and has none.
        reaches: for each term of a loss, the student inputs and own parameters it teaches, as regular expressions.
        differentiable: the student inputs and own parameters, as a regular expression, whose gradient is the
            derivative of the value; what acts through a detached factor too is left out.
        exempt: checks that don't apply, each with the reason.
    """

    subject: Callable[..., object]
    build: Callable[[Sizes], nn.Module]
    inputs: Mapping[str, Input]
    call: Callable[[Callable[..., object], Tensors], object]
    variant: str = ""
    outputs: tuple[str, ...] = ()
    reaches: Mapping[str, str] = field(default_factory=dict)
    differentiable: str = ".*"
    exempt: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.subject.__name__}-{self.variant}" if self.variant else self.subject.__name__

    @property
    def is_loss(self) -> bool:
        return not self.outputs

    @property
    def students(self) -> list[str]:
        return [name for name, given in self.inputs.items() if given.role == "student"]

    @property
    def teachers(self) -> list[str]:
        return [name for name, given in self.inputs.items() if given.role == "teacher"]

    def learners(self, module: nn.Module, tensors: Tensors) -> dict[str, Tensor]:
        """Return what a step teaches, by name: the student's inputs and the module's own parameters."""
        return {name: tensors[name] for name in self.students} | dict(module.named_parameters())

    def applies(self, check: str) -> None:
        """Skip the running test where its check does not apply to this case."""
        if check in self.exempt:
            pytest.skip(f"{self.name}: {self.exempt[check]}")

    def module(self, sizes: Sizes = SIZES, dtype: torch.dtype = torch.float64, *, train: bool = False) -> nn.Module:
        """Return the module with the same parameters every time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return self.build(sizes).to(dtype).train(train)

    def tensors(
        self, sizes: Sizes = SIZES, dtype: torch.dtype = torch.float64, *, scale: float = 1.0, seed: int = 0
    ) -> dict[str, Tensor]:
        """Return the inputs: the same values whatever the dtype, the student's requiring gradient."""
        drawn: dict[str, Tensor] = {}
        for name, given in self.inputs.items():
            generator = torch.Generator().manual_seed(seed + zlib.crc32(name.encode()))
            values = given.draw(sizes.shape(given.axes), generator) * (scale if given.scaled else 1.0)
            drawn[name] = values.to(dtype)
        return self.attached(drawn)

    def attached(self, tensors: Tensors) -> dict[str, Tensor]:
        """Return the same values as leaves, of which the student's require gradient."""
        return {name: values.detach().requires_grad_(name in self.students) for name, values in tensors.items()}

    def scalar(self, outcome: object) -> Tensor:
        """Return the total, or a fixed projection of a block's outputs that treats every sample alike."""
        if isinstance(outcome, Terms):
            return outcome.total
        projected = [
            (values * _direction(values, axes)).to(torch.promote_types(values.dtype, torch.float32)).mean()
            for values, axes in zip(pytree.tree_leaves(outcome), self.outputs, strict=True)
        ]
        return torch.stack(projected).sum()

    def step(
        self,
        module: nn.Module,
        tensors: Tensors,
        *,
        through: Callable[..., object] | None = None,
        autocast: torch.dtype | None = None,
        loss_scale: float = 1.0,
    ) -> Step:
        """Call the module (or what stands in for it, ``through``) and take the gradient of its scalar.

        Autocast, if any, ends before the gradient is taken, as it should.
        """
        with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
            outcome = self.call(module if through is None else through, tensors)
        learners = self.learners(module, tensors)
        scaled = self.scalar(outcome) * loss_scale
        gradients = torch.autograd.grad(scaled, list(learners.values()), materialize_grads=True)
        return Step(named(outcome), dict(zip(learners, gradients, strict=True)))


def named(outcome: object) -> dict[str, Tensor]:
    """Return a loss's terms and total, or a block's outputs numbered, without their graph."""
    values = {**outcome.parts, "total": outcome.total} if isinstance(outcome, Terms) else _numbered(outcome)
    return {name: value.detach() for name, value in values.items()}


def _numbered(outcome: object) -> dict[str, Tensor]:
    return {f"output {number}": value for number, value in enumerate(pytree.tree_leaves(outcome))}


def _direction(values: Tensor, axes: str) -> Tensor:
    """Return fixed random weights for one output: one for each place, the same for each sample."""
    shape = [1 if axis == "B" else size for axis, size in zip(axes.split(), values.shape, strict=True)]
    return normal(tuple(shape), torch.Generator().manual_seed(1)).to(values)


def assert_same(got: Step, expected: Step, *, rtol: float, atol: float) -> None:
    """Compare two steps by name, whatever their dtypes."""
    for what, mine, theirs in (
        ("output", got.outputs, expected.outputs),
        ("gradient", got.gradients, expected.gradients),
    ):
        assert mine.keys() == theirs.keys()
        for name, value in mine.items():
            torch.testing.assert_close(
                value.double(),
                theirs[name].double(),
                rtol=rtol,
                atol=atol,
                msg=lambda text, what=what, name=name: f"{what} {name}: {text}",
            )


def assert_finite(step: Step) -> None:
    """Refuse NaN and infinity in an output or a gradient, and say in which."""
    found = {f"output {name}": value for name, value in step.outputs.items()}
    found |= {f"gradient of {name}": value for name, value in step.gradients.items()}
    broken = [name for name, value in found.items() if not bool(value.isfinite().all())]
    assert not broken, f"not finite: {', '.join(broken)}"
