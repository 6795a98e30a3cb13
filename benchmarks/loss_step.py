"""What a step of CMD costs: the student alone, CMD straight from the equations, and the library's.

    python benchmarks/loss_step.py --out benchmarks/results/loss_step.json

Teacher features are given; forward and backward, gradients into the student's features and the losses' own parameters.
One thread. All contestants take turns in one process, so that a slow minute of the machine hits all alike; figures are
medians over the rounds, ratios medians of each round's ratio to the straightforward step of the same round. Peak memory
is measured in a process of its own for each. All of it under several allocator settings of glibc (``ALLOCATORS``).
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
from parts.machine import machine
from parts.straightforward_cmd import StraightforwardCMD
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
    """All that CMD takes, the student's side requiring gradient."""

    student: Pair[list[Tensor]]
    teacher: Pair[list[Tensor]]
    fused: list[FusedPaths]
    teacher_fused: list[Tensor]
    responses: tuple[Tensor, Tensor, Tensor]

    def forget_gradients(self) -> None:
        """Clear what the last step left."""
        leaves = [*self.student.rgb, *self.student.tir, self.responses[0], *(x for level in self.fused for x in level)]
        for leaf in leaves:
            leaf.grad = None


def make_inputs(batch: int, crop: int) -> Inputs:
    """Return random features of the sizes that a crop of this many pixels has."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, learns: bool = False) -> Tensor:
        return torch.randn(*shape, generator=generator).relu_().requires_grad_(learns)

    def levels(channels: tuple[int, ...], learns: bool) -> list[Tensor]:
        sides = [crop >> depth for depth in range(1, 5)]
        return [draw(batch, width, side, side, learns=learns) for width, side in zip(channels, sides, strict=True)]

    def fused(level: int) -> FusedPaths:
        shape = (batch, STUDENT[level], crop >> (level + 1), crop >> (level + 1))
        weights = torch.rand(batch, 3, generator=generator).softmax(dim=1).requires_grad_()
        return FusedPaths(draw(*shape, learns=True), draw(3, *shape, learns=True), weights)

    return Inputs(
        Pair(levels(STUDENT, True), levels(STUDENT, True)),
        Pair(levels(TEACHER, False), levels(TEACHER, False)),
        [fused(2), fused(3)],
        levels(TEACHER, False)[2:],
        (draw(batch, 19, 19, learns=True), draw(batch, 19, 19), draw(batch, 19, 19)),
    )


def ours(sampling: float = 1.0) -> CMDLoss:
    """Return the library's CMD."""
    return CMDLoss(SCFDLoss(STUDENT, TEACHER, sampling=sampling), MPSDLoss(STUDENT[2:], TEACHER[2:]), HFRDLoss())


def call_ours(loss: CMDLoss, inputs: Inputs) -> Tensor:
    """Return the library's total."""
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
    """Return the same, its activations made anew in the backward pass."""
    total: Tensor = checkpoint(call_ours, loss, inputs, use_reentrant=False)
    return total


def call_straightforward(loss: StraightforwardCMD, inputs: Inputs) -> Tensor:
    """Return the same from the equations."""
    total: Tensor = loss(inputs.student, inputs.teacher, inputs.fused, inputs.teacher_fused, *inputs.responses)
    return total


def contestants(inputs: Inputs, crop: int) -> dict[str, Callable[[], Tensor]]:
    """Return each contestant's forward pass by name."""
    torch.manual_seed(0)
    plain = StraightforwardCMD(STUDENT, TEACHER)
    exact, sampled = ours(), ours(sampling=0.25)
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
        "straightforward": lambda: call_straightforward(plain, inputs),
        "ours": lambda: call_ours(exact, inputs),
        "ours, checkpointed": lambda: call_checkpointed(exact, inputs),
        "ours, sampling=0.25": lambda: call_ours(sampled, inputs),
        "student": student,
    }
    return steps | {f"{name}, bfloat16": in_bfloat16(step) for name, step in steps.items() if "check" not in name}


def time_steps(steps: dict[str, Callable[[], Tensor]], inputs: Inputs, rounds: int) -> dict[str, list[float]]:
    """Return each contestant's seconds per round; one round before is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            inputs.forget_gradients()
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
    """Return by how many MiB one step raises the process above what it holds before (Linux)."""
    status = Path("/proc/self/status")

    def kibibytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(field))

    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = kibibytes("VmRSS")
    step().backward()  # type: ignore[no-untyped-call]
    return (kibibytes("VmHWM") - before) / 1024


def again(arguments: list[str], **environment: str) -> dict[str, Any]:
    """Run this script anew with other environment variables and return what it prints."""
    command = [sys.executable, __file__, *arguments]
    output = subprocess.run(command, env={**os.environ, **environment}, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(output.stdout)
    return result


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, object]]:
    """Return medians, and ratios to the straightforward step of the same round."""
    base = seconds["straightforward"]
    return {
        name: {
            "seconds": round(statistics.median(times), 3),
            "ratio": round(statistics.median(t / b for t, b in zip(times, base, strict=True)), 3),
            "ratios": [round(t / b, 3) for t, b in zip(times, base, strict=True)],
        }
        for name, times in seconds.items()
    }


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table: ratios and seconds per allocator setting, and peak memory."""
    head = ["Step", *(f"{name}: ratio (seconds)" for name in report["time"]), "Peak MiB"]
    lines = [head, ["---", *["---:"] * (len(head) - 1)]]
    for name, peak in report["peak MiB"].items():
        found = [times[name] for times in report["time"].values()]
        lines.append([name, *(f"{x['ratio']:.2f} ({x['seconds']:.1f})" for x in found), f"{peak:,}"])
    return [f"| {' | '.join(cells)} |" for cells in lines]


def main() -> None:
    """Measure all, or, as a process of its own, one part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8, help="pairs in a batch")
    parser.add_argument("--crop", type=int, default=288, help="pixels")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--part", choices=("time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    settings = parser.parse_args()
    sizes = ["--batch", str(settings.batch), "--crop", str(settings.crop), "--rounds", str(settings.rounds)]
    if settings.part is None:
        report: dict[str, Any] = {
            "machine": machine(),
            "step": f"{settings.batch} pairs, {settings.crop} pixels, one thread",
            "allocators": ALLOCATORS,
            "time": {name: again([*sizes, "--part", "time"], **kept) for name, kept in ALLOCATORS.items()},
            "peak MiB": {
                name: again([*sizes, "--part", "memory", "--only", name])["peak"]
                for name in contestants(make_inputs(1, 32), 32)
            },
        }
        if settings.out:
            settings.out.write_text(json.dumps(report, indent=2) + "\n")
        print("\n".join(table(report)))
        return
    torch.set_num_threads(1)
    inputs = make_inputs(settings.batch, settings.crop)
    steps = contestants(inputs, settings.crop)
    if settings.part == "memory":
        print(json.dumps({"peak": round(peak_memory(steps[settings.only]))}))
    else:
        print(json.dumps(summary(time_steps(steps, inputs, settings.rounds))))


if __name__ == "__main__":
    main()
