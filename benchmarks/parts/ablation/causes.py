"""What was suspected of holding CMD back: students, and a teacher, that differ in one thing from what was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from parts.ablation.rows import CHOOSER, STUDENT, TEACHER
from parts.ablation.runs import TEACHER_RUN, Run, choice_run
from parts.ablation.sizes import Chosen, Size, lasting

HALF_TRAINED_TEACHER = "causes/half_trained_teacher"
"""The folder of the training of a teacher that was trained half as long."""


def half_trained_teacher_run(size: Size) -> Run:
    """Return that teacher's training."""
    return Run(HALF_TRAINED_TEACHER, size.teacher_network(), lasting(size.teacher, size.teacher.steps // 2), None, None)


@dataclass(frozen=True)
class Try:
    """What differs from what was chosen; all numbers are factors on that.

    Attributes:
        title: what the table calls it.
        row: of the ablation.
        steps: how long it is trained.
        fusion: on the fusion's learning rate.
        adaptors: on the learning rate of what only distillation trains.
        warmup: on the steps over which the learning rates rise.
        beta: on HFRD's weight.
        clipped: whether the gradient's norm is limited.
        kept_adaptors: whether what only distillation trains keeps batch norm's statistics when the network does.
        teacher: the folder of its training.
    """

    title: str
    row: str
    steps: int = 1
    fusion: float = 1.0
    adaptors: float = 1.0
    warmup: int = 1
    beta: float = 1.0
    clipped: bool = True
    kept_adaptors: bool = False
    teacher: str = TEACHER_RUN

    def run(self, name: str, size: Size, chosen: Chosen) -> Run:
        """Return it as a run of the ablation's folder, of one seed and on the validation sequences."""
        folder, [seed] = f"causes/{name}", size.choice_seeds
        if self.row == TEACHER:
            return Run(folder, None, None, None, "validation", seed, self.teacher)
        factors = chosen.factors._replace(fusion=chosen.factors.fusion * self.fusion)
        run = choice_run(size, self.row, seed, Chosen(factors, chosen.alpha, chosen.beta * self.beta))
        assert run.training is not None
        training = lasting(run.training, run.training.steps * self.steps)
        rates = training.learning_rates
        training = replace(
            training,
            warmup_steps=training.warmup_steps * self.warmup,
            learning_rates=replace(rates, distillation=rates.distillation * self.adaptors),
            clip_grad_norm=training.clip_grad_norm if self.clipped else 0.0,
        )
        return replace(run, folder=folder, training=training, kept_adaptors=self.kept_adaptors, teacher=self.teacher)


TRIES: Mapping[str, Try] = {
    "teacher": Try("Teacher", TEACHER),
    "student": Try("Student", STUDENT),
    "cmd": Try("CMD", CHOOSER),
    "student_long": Try("Student, three times as long", STUDENT, steps=3),
    "cmd_long": Try("CMD, three times as long", CHOOSER, steps=3),
    "teacher_half": Try("Teacher, trained half as long", TEACHER, teacher=HALF_TRAINED_TEACHER),
    "cmd_half": Try("CMD, by the teacher trained half as long", CHOOSER, teacher=HALF_TRAINED_TEACHER),
    "cmd_warm": Try("CMD, learning rates rise five times as long", CHOOSER, warmup=5),
    "cmd_adaptors": Try("CMD, adaptors learn three times as fast", CHOOSER, adaptors=3.0),
    "cmd_kept": Try("CMD, adaptors' batch norm kept from half on", CHOOSER, kept_adaptors=True),
    "cmd_beta": Try("CMD, ten times the beta", CHOOSER, beta=10.0),
    "cmd_unclipped": Try("CMD, gradients of any norm", CHOOSER, clipped=False),
    "scfd": Try("+ SCFD", "scfd"),
    "scfd_mpsd": Try("+ SCFD + MPSD", "scfd_mpsd"),
    "scfd_loss": Try("+ SCFD + MPSD's loss, by concatenation", "scfd_loss"),
    "blocks": Try("Student with MPSD blocks, alone", "blocks"),
    "blocks_slow": Try("the same, whose fusion learns at a tenth of the rate", "blocks", fusion=0.1),
    "blocks_slower": Try("the same, at a hundredth of the rate", "blocks", fusion=0.01),
}
"""By name."""
