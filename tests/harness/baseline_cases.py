"""Cases of the baseline losses."""

from __future__ import annotations

from typing import Any

from harness.case import Case, Input, Tensors, counting, pyramid
from harness.cmd_cases import BOOLEAN, MASKS, RESPONSE_MASK, masks

from mmdistill.losses.fitnets import FitNetsLoss
from mmdistill.losses.kd import KDLoss
from mmdistill.losses.modality_distillation import ModalityDistillationLoss
from mmdistill.losses.review_kd import ReviewKDLoss

PYRAMIDS = {
    "student level 1": Input("B C H W"),
    "student level 2": Input("B 2C H/2 W/2"),
    "teacher level 1": Input("B D H W", "teacher"),
    "teacher level 2": Input("B 2D H/2 W/2", "teacher"),
}
FOCUSED = {"finite differences": "the focus is detached; exponent 0, which has none, is checked"}


def call_pyramids(loss: Any, x: Tensors) -> object:
    return loss(*([x[f"{side} level {number}"] for number in (1, 2)] for side in ("student", "teacher")))


def call_masked_pyramids(loss: Any, x: Tensors) -> object:
    levels = ([x[f"{side} level {number}"] for number in (1, 2)] for side in ("student", "teacher"))
    return loss(*levels, mask=masks(x))


BASELINES = [
    *(
        Case(
            KDLoss,
            lambda _, over=over: KDLoss(over=over),
            {"student": Input("B H W"), "teacher": Input("B H W", "teacher")},
            lambda loss, x: loss(x["student"], x["teacher"]),
            variant=over,
            reaches={"distillation": "student"},
        )
        for over in ("logits", "response")
    ),
    *(
        Case(
            FitNetsLoss,
            lambda s, kernel=kernel: FitNetsLoss(*pyramid(s), kernel=kernel),
            PYRAMIDS,
            call_pyramids,
            variant=f"kernel-{kernel}",
            reaches={"hint": r"student level \d|regressors\..*"},
        )
        for kernel in (1, 3)
    ),
    Case(
        ReviewKDLoss,
        lambda s: ReviewKDLoss(*pyramid(s), mid_channels=4),
        PYRAMIDS,
        call_pyramids,
        reaches={"review": r"student level \d|chain\..*"},
    ),
    *(
        Case(
            ModalityDistillationLoss,
            lambda s, exponent=exponent: ModalityDistillationLoss(*pyramid(s), exponent=exponent),
            PYRAMIDS,
            call_pyramids,
            variant=f"exponent-{exponent}",
            reaches={"distillation": r"student level \d|adaptors\..*"},
            exempt=FOCUSED if exponent else {},
        )
        for exponent in (1, 0)
    ),
    Case(
        KDLoss,
        lambda _: KDLoss(over="response"),
        {"student": Input("B H W"), "teacher": Input("B H W", "teacher"), **RESPONSE_MASK},
        lambda loss, x: loss(x["student"], x["teacher"], mask=counting(x["mask of responses"])),
        variant="masked",
        reaches={"distillation": "student"},
        exempt=BOOLEAN,
    ),
    Case(
        FitNetsLoss,
        lambda s: FitNetsLoss(*pyramid(s)),
        {**PYRAMIDS, **MASKS},
        call_masked_pyramids,
        variant="masked",
        reaches={"hint": r"student level \d|regressors\..*"},
        exempt=BOOLEAN,
    ),
    Case(
        ReviewKDLoss,
        lambda s: ReviewKDLoss(*pyramid(s), mid_channels=4),
        {**PYRAMIDS, **MASKS},
        call_masked_pyramids,
        variant="masked",
        reaches={"review": r"student level \d|chain\..*"},
        exempt=BOOLEAN,
    ),
    Case(
        ModalityDistillationLoss,
        lambda s: ModalityDistillationLoss(*pyramid(s)),
        {**PYRAMIDS, **MASKS},
        call_masked_pyramids,
        variant="masked",
        reaches={"distillation": r"student level \d|adaptors\..*"},
        exempt={**FOCUSED, **BOOLEAN},
    ),
]
