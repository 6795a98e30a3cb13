"""The distillers of TIR-CMD as cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from harness.case import Case, Input, Tensors, boxes, counting, marked, uniform
from harness.predictors import WithPredictor, overlaps, states
from torch import Tensor

from mmdistill import BBEDistiller, TCLDistiller

BOTH_LEARN = {"a teacher": "either side may teach; which one, if any, is the caller's to say"}
# Filters and modulations have a scale of their own: that at which a network's answers are of the order of 1.
REFERENCE = Input("3 B C 4 2", scaled=False, independent="3")  # three iterates of a filter of 4x2 cells
TEST = Input("2 B C H W")
LABEL = Input("2 B H+1 W+1", "label", uniform, scaled=False)
MODULATION = {"modulation 1": Input("B C 1 1", scaled=False), "modulation 2": Input("B 2C 1 1", scaled=False)}
MAPS = {"features 1": Input("B C H W"), "features 2": Input("B 2C H/2 W/2")}
PROPOSALS = Input("B 9 4", "label", boxes, scaled=False, independent="9")
BOX = Input("B 4", "label", boxes, scaled=False)
NO_AREA = {"constant maps": "a target box without area is refused"}


def teaching(inputs: Mapping[str, Input]) -> dict[str, Input]:
    return {name: replace(given, role="teacher") for name, given in inputs.items()}


def call_tcl(loss: Any, x: Tensors) -> object:
    return loss(x["filters"], x["features"], x["label"])


def call_tcl_of_list(loss: Any, x: Tensors) -> object:
    iterates = x["filters"]
    return loss(list(iterates.unbind()) if isinstance(iterates, Tensor) else iterates, x["features"], x["label"])


def call_masked_tcl(loss: Any, x: Tensors) -> object:
    return loss(x["filters"], x["features"], x["label"], mask=counting(x["mask"]))


def call_bbe(loss: Any, x: Tensors) -> object:
    modulation, features = ([x[f"{side} {number}"] for number in (1, 2)] for side in ("modulation", "features"))
    return loss(modulation, features, x.get("proposals"), x["target"])


TIR_CMD = [
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(),
        {"filters": REFERENCE, "features": TEST, "label": LABEL},
        call_tcl,
        variant="both",
        reaches={"classification": "filters|features", "regularisation": "filters"},
        exempt=BOTH_LEARN,
    ),
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(residual="hinge", detach="test"),
        {"filters": REFERENCE, **teaching({"features": TEST}), "label": LABEL},
        call_tcl,
        variant="hinge-filters",
        reaches={"classification": "filters", "regularisation": "filters"},
    ),
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(detach="reference"),
        {**teaching({"filters": REFERENCE}), "features": TEST, "label": LABEL},
        call_tcl,
        variant="features",
        reaches={"classification": "features"},
    ),
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(detach="test"),
        {"filters": REFERENCE, **teaching({"features": TEST}), "label": LABEL},
        call_tcl_of_list,
        variant="list-of-iterates",
        reaches={"classification": "filters", "regularisation": "filters"},
    ),
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(),
        {"filters": REFERENCE, "features": TEST, "label": LABEL, "mask": replace(LABEL, draw=marked)},
        call_masked_tcl,
        variant="masked",
        reaches={"classification": "filters|features", "regularisation": "filters"},
        exempt={**BOTH_LEARN, "nan in mask": "a mask is of booleans"},
    ),
    Case(
        BBEDistiller,
        lambda s: WithPredictor(s.student),
        {**MODULATION, **MAPS, "proposals": PROPOSALS, "target": BOX},
        call_bbe,
        variant="both",
        reaches={"box": r"modulation \d|features \d|predictor\..*", "regularisation": r"modulation \d"},
        exempt={
            **BOTH_LEARN,
            **NO_AREA,
            "dead inputs": "its predictor, which is the tracker's, learns too",
            "mixed types": "what the predictor takes is its own",
        },
    ),
    Case(
        BBEDistiller,
        lambda _: BBEDistiller(overlaps, scale="signed", detach="test"),
        {
            **MODULATION,
            **teaching(MAPS),
            "proposals": replace(PROPOSALS, independent=""),
            "target": Input("B 9", "label", uniform, scaled=False),
        },
        call_bbe,
        variant="signed-modulation",
        reaches={"box": r"modulation \d", "regularisation": r"modulation \d"},
        exempt={"constant maps": "overlaps of -2 are refused"},
    ),
    Case(
        BBEDistiller,
        lambda _: BBEDistiller(states, scale=None, target="state", detach="reference"),
        {**teaching(MODULATION), **MAPS, "target": BOX},
        call_bbe,
        variant="state-features",
        reaches={"box": r"features \d"},
        exempt=NO_AREA,
    ),
]
