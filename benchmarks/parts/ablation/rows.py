"""The rows of CMD's Tables 1 to 4 as data: each student's network and losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from parts.seed_statistics import Claim

from mmdistill.interaction import Interaction
from mmdistill.reference.models.config import Fusion
from mmdistill.reference.training.settings import Baseline, BaselineWeights, DistillationSettings, Part

TEACHER = "teacher"
STUDENT = "student"
"""The paper compares all rows with this one."""

CMD = "cmd"
"""The row on which alpha and beta are chosen."""


@dataclass(frozen=True)
class Weights:
    """Weights of a row's losses.

    Attributes:
        alpha: weight of CMD's losses on features.
        beta: weight of CMD's loss on scores.
        baseline: weight of a baseline.
    """

    alpha: float = 0.0
    beta: float = 0.0
    baseline: float = 0.0


@dataclass(frozen=True)
class Row:
    """A student.

    Attributes:
        title: title in the tables.
        fusion: the fusion's name.
        parts: parts of CMD, or a single baseline; empty to train without a teacher.
        base: row without a teacher, of the same streams and fusion; empty for such a row itself.
        chosen_on: row on which the weights are chosen; empty without weights.
        streams: number of trunks.
        interaction: SCFD's interaction at each level.
        weigh_label: whether HFRD's corrected response weighs the label too.
        paper: published PR and SR on RGBT234; None if the paper has no such row.
    """

    title: str
    fusion: Fusion
    parts: tuple[Part | Baseline, ...] = ()
    base: str = ""
    chosen_on: str = ""
    streams: Literal[1, 2] = 1
    interaction: tuple[Interaction, Interaction, Interaction, Interaction] = ("sem", "sem", "sem", "cem")
    weigh_label: bool = False
    paper: tuple[float, float] | None = None

    @property
    def baseline(self) -> Baseline | None:
        """The row's baseline; None for CMD and for a student alone."""
        found: list[Baseline] = [name for name in get_args(Baseline) if name in self.parts]
        return found[0] if found else None

    def distillation(self, weights: Weights) -> DistillationSettings | None:
        """Return the distillation's settings with these weights; None for a student without a teacher."""
        if not self.parts:
            return None
        settings = DistillationSettings(parts=self.parts, interaction=self.interaction, weigh_label=self.weigh_label)
        if self.baseline is not None:
            return replace(settings, baselines=replace(BaselineWeights(), **{self.baseline: weights.baseline}))
        return replace(settings, alpha=weights.alpha, beta=weights.beta)


TEACHER_PAPER = (84.4, 60.1)


def _cmd(
    title: str,
    fusion: Fusion,
    parts: tuple[Part, ...],
    base: str,
    *,
    streams: Literal[1, 2] = 1,
    interaction: tuple[Interaction, Interaction, Interaction, Interaction] = ("sem", "sem", "sem", "cem"),
    weigh_label: bool = False,
    paper: tuple[float, float] | None = None,
) -> Row:
    """Return a row with parts of CMD, whose weights are chosen on CMD's row."""
    return Row(title, fusion, parts, base, CMD, streams, interaction, weigh_label, paper)


# The paper's parameter counts imply concatenation for students without MPSD, and MPSD blocks for the baselines.
ROWS: Mapping[str, Row] = {
    STUDENT: Row("Student", "concat", paper=(78.1, 56.0)),
    "blocks": Row("Student with MPSD blocks", "mpsd"),
    "two": Row("Student with MPSD blocks, 2 Res18", "mpsd", streams=2),
    "norm_blocks": Row("Student with normalized MPSD blocks", "mpsd-layer-norm"),
    "saf_alone": Row("Student with SAF blocks", "spatial"),
    "caf_alone": Row("Student with CAF blocks", "channel"),
    "tf_alone": Row("Student with TF blocks", "mdc-frs"),
    "scfd": _cmd("+ SCFD", "concat", ("scfd",), STUDENT, paper=(80.3, 57.4)),
    "scfd_mpsd": _cmd("+ SCFD + MPSD", "mpsd", ("scfd", "mpsd"), "blocks", paper=(82.2, 58.3)),
    "cmd": _cmd("+ SCFD + MPSD + HFRD (CMD)", "mpsd", ("scfd", "mpsd", "hfrd"), "blocks", paper=(82.4, 58.4)),
    "kd": Row("KD, 2 Res18", "mpsd", ("kd",), "two", "kd", streams=2, paper=(78.4, 56.2)),
    "fitnets": Row("FitNets, 2 Res18", "mpsd", ("fitnets",), "two", "fitnets", streams=2, paper=(79.3, 56.0)),
    "review_2": Row("ReviewKD, 2 Res18", "mpsd", ("review",), "two", "review", streams=2, paper=(79.9, 56.5)),
    "cmd_2": _cmd("CMD, 2 Res18", "mpsd", ("scfd", "mpsd", "hfrd"), "two", streams=2),
    "review": Row("ReviewKD, 1 Res18", "mpsd", ("review",), "blocks", "review", paper=(80.5, 56.3)),
    "md": Row("MD, 1 Res18", "mpsd", ("md",), "blocks", "md", paper=(80.0, 55.4)),
    "afd": _cmd("+ AFD", "concat", ("scfd",), STUDENT, interaction=("add",) * 4, paper=(78.7, 56.6)),
    "sed": _cmd("+ SED", "concat", ("scfd",), STUDENT, interaction=("sem",) * 4, paper=(79.2, 56.5)),
    "ced": _cmd("+ CED", "concat", ("scfd",), STUDENT, interaction=("cem",) * 4, paper=(79.6, 56.6)),
    "saf": _cmd("+ SCFD + SAF", "spatial", ("scfd", "mpsd"), "saf_alone", paper=(81.9, 58.0)),
    "caf": _cmd("+ SCFD + CAF", "channel", ("scfd", "mpsd"), "caf_alone", paper=(81.1, 57.6)),
    "tf": _cmd("+ SCFD + TF", "mdc-frs", ("scfd", "mpsd"), "tf_alone", paper=(82.6, 58.6)),
    "scfd_saf": _cmd("+ SCFD, SAF blocks", "spatial", ("scfd",), "saf_alone"),
    "scfd_blocks": _cmd("+ SCFD, MPSD blocks", "mpsd", ("scfd",), "blocks"),
    "scfd_loss": _cmd("+ SCFD + MPSD's loss, concatenation", "concat", ("scfd", "mpsd"), STUDENT),
    "mpsd": _cmd("+ MPSD", "mpsd", ("mpsd",), "blocks"),
    "scfd_mpsd_norm": _cmd("+ SCFD + MPSD, normalized blocks", "mpsd-layer-norm", ("scfd", "mpsd"), "norm_blocks"),
    "hfrd": _cmd("+ HFRD", "concat", ("hfrd",), STUDENT),
    "hfrd_exact": _cmd("+ HFRD that weighs the label", "concat", ("hfrd",), STUDENT, weigh_label=True),
    "cmd_exact": _cmd("CMD, HFRD that weighs the label", "mpsd", ("scfd", "mpsd", "hfrd"), "blocks", weigh_label=True),
}
"""Rows by name. Those without published figures separate each loss from the fusion that it is used with."""

TABLES: Mapping[str, tuple[str, ...]] = {
    "1": (STUDENT, "blocks", "scfd", "scfd_mpsd", "cmd"),
    "2": (STUDENT, "afd", "sed", "ced", "scfd"),
    "3": (STUDENT, "blocks", "saf_alone", "caf_alone", "tf_alone", "scfd", "saf", "caf", "tf", "scfd_mpsd"),
    "4": (STUDENT, "blocks", "two", "kd", "fitnets", "review_2", "cmd_2", "review", "md", "cmd"),
    "single": (
        *(STUDENT, "blocks", "norm_blocks", "two", "saf_alone", "scfd", "mpsd", "hfrd", "hfrd_exact"),
        *("scfd_blocks", "scfd_saf", "scfd_loss", "scfd_mpsd", "scfd_mpsd_norm", "cmd_exact"),
    ),
}
"""Rows of the paper's tables, and of the single parts; each table has the base of each of its rows."""

CLAIMS: tuple[Claim, ...] = (
    ("SCFD helps", "scfd", STUDENT),
    ("MPSD helps, after SCFD", "scfd_mpsd", "scfd"),
    ("MPSD's loss helps, after SCFD and its blocks", "scfd_mpsd", "scfd_blocks"),
    ("MPSD with normalized blocks helps, after SCFD", "scfd_mpsd_norm", "scfd"),
    ("MPSD helps, alone", "mpsd", STUDENT),
    ("MPSD's loss helps, alone", "mpsd", "blocks"),
    ("HFRD helps, after both", "cmd", "scfd_mpsd"),
    ("HFRD helps, alone", "hfrd", STUDENT),
    ("HFRD that weighs the label helps, after both", "cmd_exact", "scfd_mpsd"),
    ("HFRD that weighs the label helps, alone", "hfrd_exact", STUDENT),
    ("All three help: CMD", "cmd", STUDENT),
    ("CMD helps a student with MPSD blocks", "cmd", "blocks"),
    ("CMD helps a student with two trunks", "cmd_2", "two"),
    ("SCFD beats AFD", "scfd", "afd"),
    ("SCFD beats SED", "scfd", "sed"),
    ("SCFD beats CED", "scfd", "ced"),
    ("MPSD beats SAF", "scfd_mpsd", "saf"),
    ("MPSD blocks beat SAF blocks, without MPSD's loss", "scfd_blocks", "scfd_saf"),
    ("MPSD beats CAF", "scfd_mpsd", "caf"),
    ("CMD beats KD", "cmd", "kd"),
    ("CMD beats FitNets", "cmd", "fitnets"),
    ("CMD beats ReviewKD, 2 Res18", "cmd", "review_2"),
    ("CMD beats ReviewKD, 1 Res18", "cmd", "review"),
    ("CMD beats MD", "cmd", "md"),
    ("CMD with two trunks beats KD", "cmd_2", "kd"),
    ("CMD with two trunks beats FitNets", "cmd_2", "fitnets"),
    ("CMD with two trunks beats ReviewKD", "cmd_2", "review_2"),
)
"""Claims of the paper, and the same comparisons with rows of equal fusion and trunks.

The paper says that MPSD and HFRD each help, without rows for them alone.
"""
