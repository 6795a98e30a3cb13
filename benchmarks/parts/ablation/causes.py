"""Variants of the chosen training that may explain why CMD closes no more of the gap; each changes one setting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from parts.ablation.rows import CMD, STUDENT, TEACHER, Weights
from parts.ablation.runs import TEACHER_RUN, Run, choice_run
from parts.ablation.sizes import Size, with_steps

HALF_TRAINED_TEACHER = "causes/half_trained_teacher"
"""Folder of the training of a teacher with half the steps."""


def half_trained_teacher_run(size: Size) -> Run:
    """Return the training of a teacher with half the steps."""
    training = with_steps(size.teacher, size.teacher.steps // 2)
    return Run(HALF_TRAINED_TEACHER, size.teacher_network(), training, None, None)


@dataclass(frozen=True)
class Variant:
    """A change to the chosen training; all numbers are factors.

    Attributes:
        title: title in the table.
        row: the ablation's row.
        steps: factor on the training steps.
        fusion: factor on the fusion's learning rate.
        adaptors: factor on the learning rate of the distillation's own modules.
        warmup: factor on the warm-up steps.
        beta: factor on HFRD's weight.
        clipped: whether the gradient's norm is limited.
        freeze_adaptor_bn: freeze the adaptors' batch norm together with the network's.
        teacher: folder of the teacher's training.
    """

    title: str
    row: str
    steps: int = 1
    fusion: float = 1.0
    adaptors: float = 1.0
    warmup: int = 1
    beta: float = 1.0
    clipped: bool = True
    freeze_adaptor_bn: bool = False
    teacher: str = TEACHER_RUN

    def run(self, name: str, size: Size, chosen: Weights) -> Run:
        """Return the variant's run, with one seed and on the validation sequences."""
        folder, seed = f"causes/{name}", size.choice_seeds[0]
        if self.row == TEACHER:
            return Run(folder, None, None, None, "validation", seed, self.teacher)
        size = replace(size, factors=size.factors._replace(fusion=size.factors.fusion * self.fusion))
        run = choice_run(size, self.row, seed, replace(chosen, beta=chosen.beta * self.beta))
        assert run.training is not None
        training = with_steps(run.training, run.training.steps * self.steps)
        rates = training.learning_rates
        training = replace(
            training,
            warmup_steps=training.warmup_steps * self.warmup,
            learning_rates=replace(rates, distillation=rates.distillation * self.adaptors),
            clip_grad_norm=training.clip_grad_norm if self.clipped else 0.0,
        )
        return replace(
            run,
            folder=folder,
            training=training,
            freeze_adaptor_bn=self.freeze_adaptor_bn,
            teacher=self.teacher,
        )


VARIANTS: Mapping[str, Variant] = {
    "teacher": Variant("Teacher", TEACHER),
    "student": Variant("Student", STUDENT),
    "cmd": Variant("CMD", CMD),
    "student_long": Variant("Student, three times the steps", STUDENT, steps=3),
    "cmd_long": Variant("CMD, three times the steps", CMD, steps=3),
    "teacher_half": Variant("Teacher, half the steps", TEACHER, teacher=HALF_TRAINED_TEACHER),
    "cmd_half": Variant("CMD, teacher with half the steps", CMD, teacher=HALF_TRAINED_TEACHER),
    "cmd_warm": Variant("CMD, five times the warm-up", CMD, warmup=5),
    "cmd_adaptors": Variant("CMD, adaptors' learning rate times three", CMD, adaptors=3.0),
    "cmd_kept": Variant("CMD, adaptors' batch norm frozen from half on", CMD, freeze_adaptor_bn=True),
    "cmd_beta": Variant("CMD, ten times the beta", CMD, beta=10.0),
    "cmd_unclipped": Variant("CMD, no limit on the gradient's norm", CMD, clipped=False),
    "scfd": Variant("+ SCFD", "scfd"),
    "scfd_mpsd": Variant("+ SCFD + MPSD", "scfd_mpsd"),
    "scfd_loss": Variant("+ SCFD + MPSD's loss, concatenation", "scfd_loss"),
    "blocks": Variant("Student with MPSD blocks", "blocks"),
    "blocks_slow": Variant("Student with MPSD blocks, fusion's learning rate / 10", "blocks", fusion=0.1),
    "blocks_slower": Variant("Student with MPSD blocks, fusion's learning rate / 100", "blocks", fusion=0.01),
}
