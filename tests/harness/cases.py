"""Every public loss and block as a case: a new one is added to its file here, once, and every check covers it."""

from __future__ import annotations

import pytest
from harness.baseline_cases import BASELINES
from harness.block_cases import FUNCTIONS, MODULES
from harness.case import Case
from harness.cmd_cases import CMD
from harness.unsupervised_cases import UNSUPERVISED

BLOCKS = [*MODULES, *FUNCTIONS]
LOSSES = [*CMD, *BASELINES, *UNSUPERVISED]
CASES = [*BLOCKS, *LOSSES]


def over(cases: list[Case]) -> pytest.MarkDecorator:
    """Run a test once for each case, under the case's name."""
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def variants_are_slow(cases: list[Case], *composed: type) -> pytest.MarkDecorator:
    """As ``over``; the cases after a subject's first, and subjects composed of others, are marked slow."""
    firsts = {case.subject: case.name for case in reversed(cases) if case.subject not in composed}
    quick = set(firsts.values())
    marked = [pytest.param(case, marks=() if case.name in quick else pytest.mark.slow) for case in cases]
    return pytest.mark.parametrize("case", marked, ids=[case.name for case in cases])


every_case = over(CASES)
every_loss = over(LOSSES)
every_block = over(BLOCKS)
