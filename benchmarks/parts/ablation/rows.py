"""The rows of CMD's Tables 1 to 4 as data: each student's network and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from parts.seed_statistics import Claim

from mmdistill.interaction import Interaction
from mmdistill.reference.models.config import Fusion
from mmdistill.reference.training.settings import Baseline, DistillationSettings, Part

TEACHER = "teacher"
STUDENT = "student"
"""The gap is the difference between these two rows."""

CMD = "cmd"
"""The row on which hyperparameters are chosen."""


@dataclass(frozen=True)
class Row:
    """A student.

    Attributes:
        title: title in the tables.
        fusion: the fusion's name.
        parts: the losses; empty to train without a teacher.
        streams: number of trunks.
        interaction: SCFD's interaction at each level.
        paper: published PR and SR on RGBT234; None if the paper has no such row.
    """

    title: str
    fusion: Fusion
    parts: tuple[Part | Baseline, ...] = ()
    streams: Literal[1, 2] = 1
    interaction: tuple[Interaction, Interaction, Interaction, Interaction] = ("sem", "sem", "sem", "cem")
    paper: tuple[float, float] | None = None

    def distillation(self, alpha: float, beta: float) -> DistillationSettings | None:
        """Return the distillation's settings with these weights; None for a student without a teacher."""
        if not self.parts:
            return None
        return DistillationSettings(parts=self.parts, alpha=alpha, beta=beta, interaction=self.interaction)


TEACHER_PAPER = (84.4, 60.1)

# The paper's parameter counts imply concatenation for students without MPSD, and MPSD blocks for the baselines.
ROWS: Mapping[str, Row] = {
    STUDENT: Row("Student", "concat", paper=(78.1, 56.0)),
    "scfd": Row("+ SCFD", "concat", ("scfd",), paper=(80.3, 57.4)),
    "scfd_mpsd": Row("+ SCFD + MPSD", "mpsd", ("scfd", "mpsd"), paper=(82.2, 58.3)),
    "cmd": Row("+ SCFD + MPSD + HFRD (CMD)", "mpsd", ("scfd", "mpsd", "hfrd"), paper=(82.4, 58.4)),
    "kd": Row("KD, 2 Res18", "mpsd", ("kd",), streams=2, paper=(78.4, 56.2)),
    "fitnets": Row("FitNets, 2 Res18", "mpsd", ("fitnets",), streams=2, paper=(79.3, 56.0)),
    "review_2": Row("ReviewKD, 2 Res18", "mpsd", ("review",), streams=2, paper=(79.9, 56.5)),
    "review": Row("ReviewKD, 1 Res18", "mpsd", ("review",), paper=(80.5, 56.3)),
    "md": Row("MD, 1 Res18", "mpsd", ("md",), paper=(80.0, 55.4)),
    "afd": Row("+ AFD", "concat", ("scfd",), interaction=("add",) * 4, paper=(78.7, 56.6)),
    "sed": Row("+ SED", "concat", ("scfd",), interaction=("sem",) * 4, paper=(79.2, 56.5)),
    "ced": Row("+ CED", "concat", ("scfd",), interaction=("cem",) * 4, paper=(79.6, 56.6)),
    "saf": Row("+ SCFD + SAF", "spatial", ("scfd", "mpsd"), paper=(81.9, 58.0)),
    "caf": Row("+ SCFD + CAF", "channel", ("scfd", "mpsd"), paper=(81.1, 57.6)),
    "tf": Row("+ SCFD + TF", "mdc-frs", ("scfd", "mpsd"), paper=(82.6, 58.6)),
    "blocks": Row("Student with MPSD blocks", "mpsd"),
    "scfd_blocks": Row("+ SCFD, MPSD blocks", "mpsd", ("scfd",)),
    "scfd_loss": Row("+ SCFD + MPSD's loss, concatenation", "concat", ("scfd", "mpsd")),
    "mpsd": Row("+ MPSD", "mpsd", ("mpsd",)),
    "hfrd": Row("+ HFRD", "concat", ("hfrd",)),
    "two": Row("Student with MPSD blocks, 2 Res18", "mpsd", streams=2),
}
"""Rows by name. The last six are not in the paper; they separate each loss from the fusion that it is used with."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "1": (STUDENT, "scfd", "scfd_mpsd", "cmd"),
    "2": (STUDENT, "afd", "sed", "ced", "scfd"),
    "3": (STUDENT, "scfd", "saf", "caf", "tf", "scfd_mpsd"),
    "4": (STUDENT, "kd", "fitnets", "review_2", "review", "md", "cmd"),
    "single": (STUDENT, "blocks", "two", "scfd", "mpsd", "hfrd", "scfd_blocks", "scfd_loss", "scfd_mpsd"),
}
"""Rows of the paper's tables, and of the single parts."""

CLAIMS: tuple[Claim, ...] = (
    ("SCFD helps", "scfd", STUDENT),
    ("MPSD helps, after SCFD", "scfd_mpsd", "scfd"),
    ("MPSD helps, alone", "mpsd", STUDENT),
    ("HFRD helps, after both", "cmd", "scfd_mpsd"),
    ("HFRD helps, alone", "hfrd", STUDENT),
    ("All three help: CMD", "cmd", STUDENT),
    ("SCFD beats AFD", "scfd", "afd"),
    ("SCFD beats SED", "scfd", "sed"),
    ("SCFD beats CED", "scfd", "ced"),
    ("MPSD beats SAF", "scfd_mpsd", "saf"),
    ("MPSD beats CAF", "scfd_mpsd", "caf"),
    ("CMD beats KD", "cmd", "kd"),
    ("CMD beats FitNets", "cmd", "fitnets"),
    ("CMD beats ReviewKD, 2 Res18", "cmd", "review_2"),
    ("CMD beats ReviewKD, 1 Res18", "cmd", "review"),
    ("CMD beats MD", "cmd", "md"),
)
"""Claims of the paper. It says that MPSD and HFRD each help, without rows for them alone."""
