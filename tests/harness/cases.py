"""Every public loss and block as a case. A new one is added here, once, and every check covers it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from harness.case import Case, Input, Sizes, boxes, shares, uniform
from harness.predictors import WithPredictor, overlaps, states
from torch import Tensor, nn

from mmdistill import (
    ABF,
    CEM,
    SEM,
    ABFChain,
    BBEDistiller,
    CMDLoss,
    FusedPaths,
    HFRDLoss,
    MPSDFusion,
    MPSDLoss,
    Pair,
    SCFDLoss,
    TCLDistiller,
)
from mmdistill.fusion import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion
from mmdistill.losses.fitnets import FitNetsLoss
from mmdistill.losses.hinton import KDLoss
from mmdistill.losses.modality import ModalityDistillationLoss
from mmdistill.losses.review import ReviewKDLoss
from mmdistill.resize import resize_levels, resize_like
from mmdistill.tokens import TokenLayout, map_to_tokens, tokens_to_map

Tensors = Mapping[str, Tensor]

PAIR = {"rgb": Input("B C H W"), "tir": Input("B C H W")}
RESPONSES = {
    "student response": Input("B H W"),
    "teacher response": Input("B H W", "teacher"),
    "gaussian": Input("B H W", "label", uniform, scaled=False),
}
PYRAMIDS = {
    "student level 1": Input("B C H W"),
    "student level 2": Input("B 2C H/2 W/2"),
    "teacher level 1": Input("B D H W", "teacher"),
    "teacher level 2": Input("B 2D H/2 W/2", "teacher"),
}
LEVELS = {
    "student rgb level 1": Input("B C H W"),
    "student rgb level 2": Input("B 2C H/2 W/2"),
    "student tir level 1": Input("B C H W"),
    "student tir level 2": Input("B 2C H/2 W/2"),
    "teacher rgb level 1": Input("B D H W", "teacher"),
    "teacher rgb level 2": Input("B 2D H/2 W/2", "teacher"),
    "teacher tir level 1": Input("B D H W", "teacher"),
    "teacher tir level 2": Input("B 2D H/2 W/2", "teacher"),
}


def pyramid(s: Sizes) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the channels of two levels, the student's and the teacher's."""
    return (s.student, 2 * s.student), (s.teacher, 2 * s.teacher)


class Function(nn.Module):
    """A public function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: object) -> object:
        return self.function(*args)


def fused(channels: str = "D", weights: str = "B 3", paths: int = 3) -> dict[str, Input]:
    """What MPSDLoss is given for one level, the student's map of C channels."""
    return {
        "student fused": Input("B C H W"),
        "student paths": Input(f"{paths} B C H W"),
        "student weights": Input(weights, draw=shares, scaled=False),
        "teacher fused": Input(f"B {channels} H W", "teacher"),
    }


def call_pair(block: Any, x: Tensors) -> object:
    return block(Pair(x["rgb"], x["tir"]))


def levels(x: Tensors, side: str) -> Pair[list[Tensor]]:
    return Pair(*([x[f"{side} {modality} level {number}"] for number in (1, 2)] for modality in Pair._fields))


def call_scfd(loss: Any, x: Tensors) -> object:
    return loss(levels(x, "student"), levels(x, "teacher"))


def fused_paths(x: Tensors) -> FusedPaths:
    return FusedPaths(x["student fused"], x["student paths"], x["student weights"])


def call_mpsd(loss: Any, x: Tensors) -> object:
    return loss([fused_paths(x)], [x["teacher fused"]])


def call_hfrd(loss: Any, x: Tensors) -> object:
    return loss(x["student response"], x["teacher response"], x["gaussian"])


def call_pyramids(loss: Any, x: Tensors) -> object:
    return loss(*([x[f"{side} level {number}"] for number in (1, 2)] for side in ("student", "teacher")))


def call_cmd(loss: Any, x: Tensors) -> object:
    return loss(
        student_features=levels(x, "student"),
        teacher_features=levels(x, "teacher"),
        student_fused=[fused_paths(x)],
        teacher_fused=[x["teacher fused"]],
        student_response=x["student response"],
        teacher_response=x["teacher response"],
        gaussian=x["gaussian"],
    )


# Level 2 is carried into level 1, so the term of level 1 teaches the inputs of both; level 2 sees itself alone.
CARRIED = r"student (rgb|tir) level \d|(scfd\.)?chains\.\w+\.levels\.(0\..*|1\.reduce\..*)"
DEEPEST = r"student (rgb|tir) level 2|(scfd\.)?chains\.\w+\.levels\.1\..*"

PRODUCT = {"large float16": "the product of two features of 1e3 is no float16 number; a loss widens first"}

STATED = {"every size": "its height and width are stated where it is made"}
LIKE = {"nan in like": "only its height and width are read"}


def round_trip(s: Sizes) -> nn.Module:
    """A class token and a search grid, joined to one sequence and taken apart again."""
    layout = TokenLayout(cls=1, search=(s.height, s.width))

    def join_and_split(cls: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        tokens = layout.join({"cls": cls, "search": search})
        return layout.split(tokens)["cls"], layout.map(tokens, "search")

    return Function(join_and_split)


BLOCKS = [
    Case(SEM, lambda _: SEM(), PAIR, call_pair, outputs=("B C H W", "B C H W"), exempt=PRODUCT),
    Case(CEM, lambda _: CEM(), PAIR, call_pair, outputs=("B C H W",), exempt=PRODUCT),
    Case(
        ABF,
        lambda s: ABF(s.student, 4, s.teacher),
        {
            "level": Input("B C H W", independent="H W"),
            "deeper": Input("B 4 H/2 W/2", independent="H W"),
        },
        lambda block, x: block(x["level"], x["deeper"]),
        variant="fuse",
        outputs=("B D H W", "B 4 H W"),
    ),
    Case(
        ABF,
        lambda s: ABF(s.student, 4, s.teacher, fuse=False),
        {"level": Input("B C H W", independent="B H W")},
        lambda block, x: block(x["level"]),
        variant="deepest",
        outputs=("B D H W", "B 4 H W"),
    ),
    Case(
        ABFChain,
        lambda s: ABFChain(*pyramid(s), 4),
        {
            "level 1": Input("B C H W", independent="H W"),
            "level 2": Input("B 2C H/2 W/2", independent="H W"),
        },
        lambda block, x: block([x["level 1"], x["level 2"]]),
        outputs=("B D H W", "B 2D H/2 W/2"),
    ),
    *(
        Case(
            fusion, lambda s, fusion=fusion: fusion(s.student), PAIR, call_pair, outputs=("B C H W", "1 B C H W", "B 1")
        )
        for fusion in (SpatialAttentionFusion, ChannelAttentionFusion, ConcatFusion)
    ),
    *(
        Case(
            MPSDFusion,
            lambda s, gate=gate, weighting=weighting: MPSDFusion(s.student, gate=gate, weighting=weighting),
            PAIR,
            call_pair,
            variant=f"{gate}-{weighting}",
            outputs=("B C H W", "3 B C H W", "B 3" if weighting == "path" else "B 3 C"),
            exempt={"large float16 module": "the product of two features of 1e3 is no float16 number"},
        )
        for gate in ("softmax", "sigmoid")
        for weighting in ("path", "channel")
    ),
]

FUNCTIONS = [
    Case(
        tokens_to_map,
        lambda s: Function(lambda tokens: tokens_to_map(tokens, (s.height, s.width))),
        {"tokens": Input("B N C", independent="B C")},
        lambda function, x: function(x["tokens"]),
        outputs=("B C H W",),
        exempt=STATED,
    ),
    Case(
        map_to_tokens,
        lambda _: Function(map_to_tokens),
        {"map": Input("B C H W", independent="B C H W")},
        lambda function, x: function(x["map"]),
        outputs=("B N C",),
    ),
    Case(
        TokenLayout,
        round_trip,
        {"cls": Input("B 1 C"), "search": Input("B C H W")},
        lambda function, x: function(x["cls"], x["search"]),
        outputs=("B 1 C", "B C H W"),
        exempt=STATED,
    ),
    Case(
        resize_like,
        lambda _: Function(resize_like),
        {
            "features": Input("B C 2H W/2", independent="B C H W"),
            "like": Input("1 1 H W", "label", independent="H W"),
        },
        lambda function, x: function(x["features"], x["like"]),
        outputs=("B C H W",),
        exempt=LIKE,
    ),
    Case(
        resize_levels,
        lambda _: Function(resize_levels),
        {
            "features": Input("B C H/2 W/2", independent="B C H W"),
            "like": Input("1 1 H W", "label", independent="H W"),
        },
        lambda function, x: function([x["features"]], [x["like"]]),
        outputs=("B C H W",),
        exempt=LIKE,
    ),
]

LOSSES = [
    *(
        Case(
            SCFDLoss,
            lambda s, interaction=interaction, shared=shared: SCFDLoss(
                *pyramid(s), mid_channels=4, interaction=interaction, shared=shared
            ),
            LEVELS,
            call_scfd,
            variant=variant,
            reaches=reaches,
        )
        for variant, interaction, shared, reaches in (
            ("sem-cem", ("sem", "cem"), False, {"specific": CARRIED, "common": DEEPEST}),
            ("shared", ("sem", "cem"), True, {"specific": CARRIED, "common": DEEPEST}),
            ("cem-sem", ("cem", "sem"), False, {"common": CARRIED, "specific": DEEPEST}),
            ("add", ("add", "add"), False, {"common": f"{CARRIED}|{DEEPEST}"}),
        )
    ),
    Case(
        MPSDLoss,
        lambda s: MPSDLoss((s.student,), (s.teacher,)),
        fused(),
        call_mpsd,
        variant="detached",
        reaches={"fusion": r"student fused|adaptors\..*", "penalty": "student weights"},
        differentiable="student (fused|weights)",
    ),
    Case(
        MPSDLoss,
        lambda s: MPSDLoss((s.student,), (s.teacher,), detach_path_loss=False),
        fused(),
        call_mpsd,
        variant="attached",
        reaches={
            "fusion": r"student fused|adaptors\..*",
            "penalty": r"student (weights|paths)|adaptors\..*",
        },
    ),
    Case(
        MPSDLoss,
        lambda s: MPSDLoss((s.student,), (s.student,)),
        fused(channels="C", weights="B 3 C"),
        call_mpsd,
        variant="channel-weights",
        reaches={"fusion": "student fused", "penalty": "student weights"},
        differentiable="student (fused|weights)",
    ),
    Case(
        MPSDLoss,
        lambda s: MPSDLoss((s.student,), (s.teacher,)),
        fused(weights="B 1", paths=1),
        call_mpsd,
        variant="one-path",
        reaches={"fusion": r"student fused|adaptors\..*"},
        exempt=dict.fromkeys(
            ("nan in student paths", "nan in student weights"), "one path has nothing to select and is not looked at"
        ),
    ),
    *(
        Case(
            HFRDLoss,
            lambda _, residual=residual, clamp=clamp: HFRDLoss(residual=residual, clamp=clamp),
            RESPONSES,
            call_hfrd,
            variant=residual if clamp else f"{residual}-unclamped",
            reaches={"response": "student response"},
        )
        for residual in ("mse", "hinge")
        for clamp in (True, False)
    ),
    Case(
        CMDLoss,
        lambda s: CMDLoss(
            SCFDLoss(*pyramid(s), mid_channels=4, interaction=("sem", "cem")),
            MPSDLoss((s.student,), (s.teacher,)),
            HFRDLoss(),
        ),
        {**LEVELS, **fused(), **RESPONSES},
        call_cmd,
        reaches={
            "specific": CARRIED,
            "common": DEEPEST,
            "fusion": r"student fused|mpsd\.adaptors\..*",
            "penalty": "student weights",
            "response": "student response",
        },
        differentiable=r"(?!student paths|mpsd\.adaptors).*",
    ),
]

FOCUSED = {"finite differences": "the focus is detached; exponent 0, which has none, is checked"}

RIVALS = [
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
            exempt={"finite differences": "the focus is detached; exponent 0, without one, is checked"}
            if exponent
            else {},
        )
        for exponent in (1, 0)
    ),
]

BOTH_LEARN = {"a teacher": "either side may teach; which one, if any, is the caller's to say"}
# Filters and modulations have a scale of their own: that at which a network's answers are of the order of 1.
REFERENCE = Input("3 B C 4 2", scaled=False, independent="3")  # three iterates of a filter of 4x2 cells
TEST = Input("2 B C H W")
LABEL = Input("2 B H+1 W+1", "label", uniform, scaled=False)
MODULATION = {"modulation 1": Input("B C 1 1", scaled=False), "modulation 2": Input("B 2C 1 1", scaled=False)}
MAPS = {"features 1": Input("B C H W"), "features 2": Input("B 2C H/2 W/2")}
PROPOSALS = Input("B 9 4", "label", boxes, scaled=False, independent="9")
BOX = Input("B 4", "label", boxes, scaled=False)


def teaching(inputs: Mapping[str, Input]) -> dict[str, Input]:
    return {name: replace(given, role="teacher") for name, given in inputs.items()}


def call_tcl(loss: Any, x: Tensors) -> object:
    return loss(x["filters"], x["features"], x["label"])


def call_bbe(loss: Any, x: Tensors) -> object:
    modulation, features = ([x[f"{side} {number}"] for number in (1, 2)] for side in ("modulation", "features"))
    return loss(modulation, features, x.get("proposals"), x["target"])


UNSUPERVISED = [
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
        lambda _: TCLDistiller(residual="hinge", detach="features"),
        {"filters": REFERENCE, **teaching({"features": TEST}), "label": LABEL},
        call_tcl,
        variant="hinge-filters",
        reaches={"classification": "filters", "regularisation": "filters"},
    ),
    Case(
        TCLDistiller,
        lambda _: TCLDistiller(detach="filters"),
        {**teaching({"filters": REFERENCE}), "features": TEST, "label": LABEL},
        call_tcl,
        variant="features",
        reaches={"classification": "features"},
    ),
    Case(
        BBEDistiller,
        lambda s: WithPredictor(s.student),
        {**MODULATION, **MAPS, "proposals": PROPOSALS, "target": BOX},
        call_bbe,
        variant="both",
        reaches={"box": r"modulation \d|features \d|predictor\..*", "regularisation": r"modulation \d"},
        exempt={**BOTH_LEARN, "dead inputs": "its predictor, which is the tracker's, learns too"},
    ),
    Case(
        BBEDistiller,
        lambda _: BBEDistiller(overlaps, scale="signed", detach="features"),
        {
            **MODULATION,
            **teaching(MAPS),
            "proposals": replace(PROPOSALS, independent=""),
            "target": Input("B 9", "label", uniform, scaled=False),
        },
        call_bbe,
        variant="signed-modulation",
        reaches={"box": r"modulation \d", "regularisation": r"modulation \d"},
    ),
    Case(
        BBEDistiller,
        lambda _: BBEDistiller(states, target="state", detach="modulation"),
        {**teaching(MODULATION), **MAPS, "target": BOX},
        call_bbe,
        variant="state-features",
        reaches={"box": r"features \d"},
        exempt={"constant maps": "a box of no width or height has no state, and is refused"},
    ),
]

BLOCKS += FUNCTIONS
LOSSES += [*RIVALS, *UNSUPERVISED]
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
