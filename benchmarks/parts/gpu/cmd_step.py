"""A CMD step on the GPU: the library's against plain PyTorch, which takes turns with it in the same run."""

from __future__ import annotations

import statistics
from typing import Any

from parts.cmd_steps import make_inputs, make_steps, peak_device_memory, time_steps
from parts.gpu.experiment import Experiment

STEPS = ("plain", "library", "library, sampling=0.25", "student")
"""Steps that are compared; "student" is a step of the student's trunk for scale."""

MIN_ROUNDS = 3
"""Smallest number of rounds, because the ratio is a median over rounds."""


class CMDStepSpeed:
    """Measures forward and backward of CMD with given features, as ``loss_step.py`` does on a CPU."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment

    def rate(self, precision: str) -> dict[str, Any]:
        """Return milliseconds, ratio to the plain step, and peak MiB by step.

        The ratio is the median of each round's ratio. Each round has one call of every step, so other load on the
        machine affects all of them.
        """
        experiment = self.experiment
        inputs = make_inputs(experiment.batch_size, experiment.crop, experiment.torch_device)
        suffix = ", bfloat16" if precision == "bfloat16" else ""
        steps = {name: each for name, each in make_steps(inputs, experiment.crop).items() if name in _names(suffix)}
        rounds = max(MIN_ROUNDS, round(experiment.rounds * experiment.seconds / 0.1))
        times = time_steps(steps, inputs, rounds, quiet=True)
        base = times[f"plain{suffix}"]
        return {
            "rounds": rounds,
            "steps": {
                name.removesuffix(suffix): {
                    "milliseconds": 1000 * statistics.median(seconds),
                    "ratio": statistics.median(a / b for a, b in zip(seconds, base, strict=True)),
                    "peak MiB": peak_device_memory(steps[name], inputs),
                }
                for name, seconds in times.items()
            },
        }


def _names(suffix: str) -> set[str]:
    return {name + suffix for name in STEPS}
