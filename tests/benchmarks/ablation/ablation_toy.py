"""The ablation at toy size."""

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from mmdistill.reference.synthetic import SyntheticSettings

Command = Callable[..., dict[str, Any]]
"""Runs the benchmark with some arguments and returns its report."""


def part(name: str) -> Any:
    return importlib.import_module(f"parts.ablation.{name}")


def toy(sizes: Any) -> Any:
    preset = sizes.SIZES["nightly"]
    samples = replace(preset.student.samples, proposals=replace(preset.student.samples.proposals, count=4))
    student = replace(preset.student, batch_size=2, warmup_steps=0, samples=samples)
    return replace(
        preset,
        crop_size=64,
        width=4,
        teacher_width=4,
        teacher=sizes.with_steps(replace(student, seed=1000), 2),
        student=sizes.with_steps(student, 2),
        video=SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=4),
        train_videos=2,
        train_scenes=1,
        train_procedural=1,
        held_out=(2, 1),
        held_out_length=3,
        validation=(1, 1),
        validation_pairs=3,
        test_pairs=3,
        factors=sizes.RateFactors(),
        alphas=(1e-3, 1e-1),
        betas=(100.0,),
        baselines=sizes.BaselineCandidates(*[(1.0, 10.0)] * 4),
        choice_seeds=(1000,),
        choice_steps=1,
    )


def hang_if(hangs: bool) -> str:
    """A run that finishes, or that does not react to any request."""
    if hangs:
        time.sleep(1000)
    return ""
