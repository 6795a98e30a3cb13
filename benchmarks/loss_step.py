"""Measures time and peak memory of a CMD step: written from the equations, the library's, and the student's own step.

Forward and backward with given teacher features, gradients into the student's features and the losses' parameters, one
thread. All steps take turns in one process, so that other load affects all of them. Figures are medians over rounds;
ratios are medians of each round's ratio to the plain step. Peak memory is measured in one process per step. Everything
is repeated with several settings of glibc's allocator. Takes about 15 minutes on one core.

Example:
    python benchmarks/loss_step.py --out benchmarks/results/loss_step.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from parts.plain_cmd import PlainCMD
from parts.report_fields import machine
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mmdistill import CMDLoss, FusedPaths, HFRDLoss, MPSDLoss, Pair, SCFDLoss, Terms
from mmdistill.reference.models.resnet import ResNetTrunk

STUDENT, TEACHER = (64, 64, 128, 256), (64, 256, 512, 1024)
ALLOCATORS: dict[str, dict[str, str]] = {
    "default": {},
    "freed memory kept": {"MALLOC_MMAP_THRESHOLD_": str(2**34), "MALLOC_TRIM_THRESHOLD_": str(2**34)},
    "huge pages": {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"},
}


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


def make_inputs(batch: int, crop: int) -> Inputs:
    """Return random features of the shapes for a crop of this many pixels."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, requires_grad: bool = False) -> Tensor:
        return torch.randn(*shape, generator=generator).relu_().requires_grad_(requires_grad)

    def levels(channels: tuple[int, ...], requires_grad: bool) -> list[Tensor]:
        sides = [crop >> depth for depth in range(1, 5)]
        return [
            draw(batch, width, side, side, requires_grad=requires_grad)
            for width, side in zip(channels, sides, strict=True)
        ]

    def fused(level: int) -> FusedPaths:
        shape = (batch, STUDENT[level], crop >> (level + 1), crop >> (level + 1))
        weights = torch.rand(batch, 3, generator=generator).softmax(dim=1).requires_grad_()
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
    """Return the forward passes by name."""
    torch.manual_seed(0)
    plain = PlainCMD(STUDENT, TEACHER)
    exact, sampled = library_cmd(), library_cmd(sampling=0.25)
    for loss in (exact, sampled):
        loss.load_state_dict(plain.state_dict())
    trunk, images = ResNetTrunk(18).train(), torch.randn(2 * len(inputs.responses[0]), 3, crop, crop)

    def in_bfloat16(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
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


def time_steps(steps: dict[str, Callable[[], Tensor]], inputs: Inputs, rounds: int) -> dict[str, list[float]]:
    """Return each step's seconds per round, without a warm-up round."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            inputs.clear_gradients()
            start = time.perf_counter()
            total = step()
            total.backward()  # type: ignore[no-untyped-call]
            elapsed = time.perf_counter() - start
            if turn:
                seconds[name].append(elapsed)
            print(f"{turn} {name}: {elapsed:.2f} s, total {total.item():.6f}", file=sys.stderr, flush=True)
            del total
    return seconds


def peak_memory(step: Callable[[], Tensor]) -> float:
    """Return the MiB by which one step raises the resident memory of the process (Linux)."""
    status = Path("/proc/self/status")

    def kibibytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = kibibytes("VmRSS")
    step().backward()  # type: ignore[no-untyped-call]
    return (kibibytes("VmHWM") - before) / 1024


def run_part(arguments: list[str], **environment: str) -> dict[str, Any]:
    """Run this script in a new process with environment variables; return its JSON output."""
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(output.stdout)
    return result


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, object]]:
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


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of ratios, seconds and peak memory."""
    head = ["Step", *(f"{name}: ratio (seconds)" for name in report["time"]), "Peak MiB"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, peak in report["peak MiB"].items():
        results = [times[name] for times in report["time"].values()]
        lines.append([name, *(f"{x['ratio']:.2f} ({x['seconds']:.1f})" for x in results), f"{peak:,}"])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    """Measure everything; with the hidden options, one part in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="timed rounds; default 5")
    parser.add_argument("--batch", type=int, default=8, help="image pairs per batch; default 8")
    parser.add_argument("--crop", type=int, default=288, help="crop size, pixels; default 288")
    parser.add_argument("--out", type=Path, help="JSON report")
    parser.add_argument("--part", choices=("time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    sizes = ["--batch", str(settings.batch), "--crop", str(settings.crop), "--rounds", str(settings.rounds)]
    if settings.part is None:
        report: dict[str, Any] = {
            "machine": machine(),
            "step": f"{settings.batch} pairs, {settings.crop} pixels, one thread",
            "allocators": ALLOCATORS,
            "time": {name: run_part([*sizes, "--part", "time"], **variables) for name, variables in ALLOCATORS.items()},
            "peak MiB": {
                name: run_part([*sizes, "--part", "memory", "--only", name])["peak"]
                for name in make_steps(make_inputs(1, 32), 32)
            },
        }
        if settings.out:
            settings.out.write_text(json.dumps(report, indent=2) + "\n")
        print("\n".join(table(report)))
        return
    torch.set_num_threads(1)
    inputs = make_inputs(settings.batch, settings.crop)
    steps = make_steps(inputs, settings.crop)
    if settings.part == "memory":
        print(json.dumps({"peak": round(peak_memory(steps[settings.only]))}))
    else:
        print(json.dumps(summary(time_steps(steps, inputs, settings.rounds))))


if __name__ == "__main__":
    main()
