"""Every public loss and block as a case: a new one is added to its file here, once, and every check covers it."""

from __future__ import annotations

import pytest
from harness.baseline_cases import BASELINES
from harness.block_cases import FUNCTIONS, MODULES
from harness.case import Case
from harness.cmd_cases import CMD
from harness.tir_cmd_cases import TIR_CMD

BLOCKS = [*MODULES, *FUNCTIONS]
LOSSES = [*CMD, *BASELINES, *TIR_CMD]
CASES = [*BLOCKS, *LOSSES]


def over(cases: list[Case], *slow_subjects: object) -> pytest.MarkDecorator:
    """Run a test once for each case, under the case's name; each subject's first case is quick, the others are slow.

    Args:
        cases: of any subjects.
        slow_subjects: those without a quick case.
    """
    marked = [pytest.param(case, marks=marks_of(case, cases, *slow_subjects)) for case in cases]
    return pytest.mark.parametrize("case", marked, ids=[case.name for case in cases])


def marks_of(case: Case, cases: list[Case], *slow_subjects: object) -> tuple[pytest.MarkDecorator, ...]:
    """Return the marks of one of several cases: slow, unless it is its subject's first."""
    first = next(each for each in cases if each.subject == case.subject)
    return () if case is first and case.subject not in slow_subjects else (pytest.mark.slow,)


every_case = over(CASES)
every_loss = over(LOSSES)
every_block = over(BLOCKS)
