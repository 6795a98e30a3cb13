"""Steps that loss_step.py and gpu_speed.py compare: CMD from the equations, the library's, and a student's trunk."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from parts.gpu.roofline import synchronize
from parts.plain_cmd import PlainCMD
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdistill import CMDLoss, FusedPaths, HFRDLoss, MPSDLoss, Pair, SCFDLoss, Terms
from mmdistill.reference.models.resnet import ResNetTrunk

STUDENT, TEACHER = (64, 64, 128, 256), (64, 256, 512, 1024)


@dataclass(frozen=True)
class Inputs:
    """The arguments of CMD; the student's tensors require gradients."""

    student: Pair[list[Tensor]]
    teacher: Pair[list[Tensor]]
    fused: list[FusedPaths]
    teacher_fused: list[Tensor]
    responses: tuple[Tensor, Tensor, Tensor]

    def clear_gradients(self) -> None:
        """Clear the gradients of the last step."""
        leaves = [*self.student.rgb, *self.student.tir, self.responses[0], *(x for level in self.fused for x in level)]
        for leaf in leaves:
            leaf.grad = None


def make_inputs(batch: int, crop: int, device: str | torch.device = "cpu") -> Inputs:
    """Return random features of the shapes for a crop of this many pixels."""
    generator = torch.Generator(device).manual_seed(0)

    def draw(*shape: int, requires_grad: bool = False) -> Tensor:
        values = torch.randn(*shape, generator=generator, device=device)
        return values.relu_().requires_grad_(requires_grad)

    def levels(channels: tuple[int, ...], requires_grad: bool) -> list[Tensor]:
        sides = [crop >> depth for depth in range(1, 5)]
        return [
            draw(batch, width, side, side, requires_grad=requires_grad)
            for width, side in zip(channels, sides, strict=True)
        ]

    def fused(level: int) -> FusedPaths:
        shape = (batch, STUDENT[level], crop >> (level + 1), crop >> (level + 1))
        weights = torch.rand(batch, 3, generator=generator, device=device).softmax(dim=1).requires_grad_()
        return FusedPaths(draw(*shape, requires_grad=True), draw(3, *shape, requires_grad=True), weights)

    return Inputs(
        Pair(levels(STUDENT, True), levels(STUDENT, True)),
        Pair(levels(TEACHER, False), levels(TEACHER, False)),
        [fused(2), fused(3)],
        levels(TEACHER, False)[2:],
        (draw(batch, 19, 19, requires_grad=True), draw(batch, 19, 19), draw(batch, 19, 19)),
    )


def library_cmd(sampling: float = 1.0) -> CMDLoss:
    """Return the library's CMD loss."""
    return CMDLoss(SCFDLoss(STUDENT, TEACHER, sampling=sampling), MPSDLoss(STUDENT[2:], TEACHER[2:]), HFRDLoss())


def call_library(loss: CMDLoss, inputs: Inputs) -> Tensor:
    """Return the library's total loss."""
    response, teacher_response, gaussian = inputs.responses
    terms: Terms = loss(
        student_features=inputs.student,
        teacher_features=inputs.teacher,
        student_fused=inputs.fused,
        teacher_fused=inputs.teacher_fused,
        student_response=response,
        teacher_response=teacher_response,
        gaussian=gaussian,
    )
    return terms.total


def call_checkpointed(loss: CMDLoss, inputs: Inputs) -> Tensor:
    """Return the library's total loss with activation checkpointing."""
    total: Tensor = checkpoint(call_library, loss, inputs, use_reentrant=False)
    return total


def call_plain(loss: PlainCMD, inputs: Inputs) -> Tensor:
    """Return the total loss of the plain implementation."""
    total: Tensor = loss(inputs.student, inputs.teacher, inputs.fused, inputs.teacher_fused, *inputs.responses)
    return total


def make_steps(inputs: Inputs, crop: int) -> dict[str, Callable[[], Tensor]]:
    """Return the forward passes by name, on the device of the inputs."""
    torch.manual_seed(0)
    device = inputs.responses[0].device
    plain = PlainCMD(STUDENT, TEACHER).to(device)
    exact, sampled = library_cmd().to(device), library_cmd(sampling=0.25).to(device)
    for loss in (exact, sampled):
        loss.load_state_dict(plain.state_dict())
    trunk = ResNetTrunk(18).train().to(device)
    images = torch.randn(2 * len(inputs.responses[0]), 3, crop, crop).to(device)

    def in_bfloat16(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast(device.type, torch.bfloat16):
                return call()

        return run

    def student() -> Tensor:
        return torch.stack([level.float().square().mean() for level in trunk(images)]).sum()

    steps: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: call_plain(plain, inputs),
        "library": lambda: call_library(exact, inputs),
        "library, checkpointed": lambda: call_checkpointed(exact, inputs),
        "library, sampling=0.25": lambda: call_library(sampled, inputs),
        "student": student,
    }
    return steps | {f"{name}, bfloat16": in_bfloat16(step) for name, step in steps.items() if "check" not in name}


def time_steps(
    steps: Mapping[str, Callable[[], Tensor]], inputs: Inputs, rounds: int, *, quiet: bool = False
) -> dict[str, list[float]]:
    """Return each step's seconds per round, without a warm-up round. The steps take turns.

    Args:
        steps: the forward passes.
        inputs: their inputs.
        rounds: timed rounds.
        quiet: print no line per step.
    """
    device = inputs.responses[0].device
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            inputs.clear_gradients()
            synchronize(device)
            start = time.perf_counter()
            total = step()
            total.backward()  # type: ignore[no-untyped-call]
            synchronize(device)
            elapsed = time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
            if not quiet:
                print(f"{turn} {name}: {elapsed:.2f} s, total {total.item():.6f}", file=sys.stderr, flush=True)
            del total
    return seconds


def peak_device_memory(step: Callable[[], Tensor], inputs: Inputs) -> float | None:
    """Return the MiB by which one step raises the GPU's allocated memory; None on a CPU."""
    device = inputs.responses[0].device
    if device.type != "cuda":
        return None
    inputs.clear_gradients()
    synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step().backward()  # type: ignore[no-untyped-call]
    synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def summary(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, object]]:
    """Return medians, and ratios to the plain step of the same round."""
    base = seconds["plain"]
    return {
        name: {
            "seconds": round(statistics.median(times), 3),
            "ratio": round(statistics.median(t / b for t, b in zip(times, base, strict=True)), 3),
            "ratios": [round(t / b, 3) for t, b in zip(times, base, strict=True)],
        }
        for name, times in seconds.items()
    }
