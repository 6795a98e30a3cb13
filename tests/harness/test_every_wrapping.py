"""A tracker with taps under checkpointing and torch.compile learns what it learns in plain PyTorch."""

from __future__ import annotations

import shutil
from functools import partial

import pytest
import torch
from harness.tracker import Batch, Student, alone, batch_of, distill, gradients, student_and_loss
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmdistill import DeadTermWarning, FusedPaths


def attached(batch: Batch) -> Batch:
    """Return the batch with images that require gradient, as reentrant checkpointing asks of what it is given."""
    return batch._replace(rgb=batch.rgb.requires_grad_(), tir=batch.tir.requires_grad_())


def assert_alone(total: Tensor, student: nn.Module, loss: nn.Module) -> None:
    """Compare a step's total and gradients with plain PyTorch's."""
    total.backward()
    expected_total, expected = alone()
    torch.testing.assert_close(total.detach(), expected_total, rtol=1e-9, atol=1e-12)
    for name, gradient in gradients(student, loss).items():
        plain = name.replace("_orig_mod.", "")
        torch.testing.assert_close(gradient, expected[plain], rtol=1e-7, atol=1e-9)


class Checkpointed(Student):
    """A student of which all is inside one checkpoint, its tapped layers too."""

    reentrant: bool

    def forward(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, FusedPaths]:
        # Reentrant checkpointing gives back plain tuples.
        response, *fused = checkpoint(self._flat, rgb, tir, use_reentrant=self.reentrant)
        return response, FusedPaths(*fused)

    def _flat(self, rgb: Tensor, tir: Tensor) -> tuple[Tensor, ...]:
        response, fused = super().forward(rgb, tir)
        return response, *fused


def checkpointed(student: Student, *, reentrant: bool) -> Student:
    twin = Checkpointed().double().eval()
    twin.load_state_dict(student.state_dict())
    twin.reentrant = reentrant
    return twin


@pytest.mark.parametrize("names", [("shallow",), ("shallow", "deep", "neck")], ids=["one", "all"])
@pytest.mark.parametrize("reentrant", [False, True], ids=["non-reentrant", "reentrant"])
def test_tapped_layers_that_are_checkpointed(names: tuple[str, ...], reentrant: bool) -> None:
    student, loss = student_and_loss()
    for name in names:
        layer = student.get_submodule(name)
        layer.forward = partial(checkpoint, layer.forward, use_reentrant=reentrant)  # type: ignore[method-assign]
    assert_alone(distill(student, loss, attached(batch_of())).total, student, loss)


def test_taps_inside_a_checkpoint() -> None:
    student, loss = student_and_loss()
    student = checkpointed(student, reentrant=False)
    total = distill(student, loss, attached(batch_of())).total
    assert_alone(total, student, loss)


def test_taps_inside_a_reentrant_checkpoint_are_warned_of() -> None:
    """It runs the layers without gradient: what a tap takes there teaches nobody."""
    student, loss = student_and_loss("scfd")
    with pytest.warns(DeadTermWarning, match="SCFDLoss: .*gradient"):
        distill(checkpointed(student, reentrant=True), loss, attached(batch_of()))


COMPILED = [
    ("aot_eager", "student"),
    pytest.param("aot_eager", "both", marks=pytest.mark.slow),
    pytest.param("inductor", "both", marks=pytest.mark.slow),
]


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("backend", "which"), COMPILED)
@pytest.mark.slow
def test_compiled_student_and_loss(backend: str, which: str) -> None:
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("the default backend needs a C++ compiler")
    student, loss = student_and_loss()
    compiled = torch.compile(student, backend=backend), torch.compile(loss, backend=backend)
    total = distill(compiled[0], compiled[1] if which == "both" else loss, batch_of()).total  # type: ignore[arg-type]
    assert_alone(total, student, loss)
