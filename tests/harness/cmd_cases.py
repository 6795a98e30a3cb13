"""The losses of CMD as cases."""

from __future__ import annotations

from typing import Any

from harness.case import Case, Input, Tensors, counting, marked, pyramid, shares, uniform
from torch import Tensor

from mmdistill import CMDLoss, FusedPaths, HFRDLoss, MPSDLoss, Pair, SCFDLoss

RESPONSES = {
    "student response": Input("B H W"),
    "teacher response": Input("B H W", "teacher"),
    "gaussian": Input("B H W", "label", uniform, scaled=False),
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

MASKS = {
    "mask level 1": Input("B 1 H W", "label", marked, scaled=False),
    "mask level 2": Input("B 1 H/2 W/2", "label", marked, scaled=False),
}
RESPONSE_MASK = {"mask of responses": Input("B 1 H W", "label", marked, scaled=False)}
BOOLEAN = {f"nan in {name}": "a mask is of booleans" for name in (*MASKS, *RESPONSE_MASK)}

# Level 2 is carried into level 1, so the term of level 1 teaches the inputs of both; level 2 sees itself alone.
CARRIED = r"student (rgb|tir) level \d|(scfd\.)?chains\.\w+\.levels\.(0\..*|1\.reduce\..*)"
DEEPEST = r"student (rgb|tir) level 2|(scfd\.)?chains\.\w+\.levels\.1\..*"


def fused(channels: str = "D", weights: str = "B 3", paths: int = 3) -> dict[str, Input]:
    """What MPSDLoss is given for one level, the student's map of C channels."""
    return {
        "student fused": Input("B C H W"),
        "student paths": Input(f"{paths} B C H W"),
        "student weights": Input(weights, draw=shares, scaled=False),
        "teacher fused": Input(f"B {channels} H W", "teacher"),
    }


def levels(x: Tensors, side: str) -> Pair[list[Tensor]]:
    return Pair(*([x[f"{side} {modality} level {number}"] for number in (1, 2)] for modality in Pair._fields))


def call_scfd(loss: Any, x: Tensors) -> object:
    return loss(levels(x, "student"), levels(x, "teacher"))


def fused_paths(x: Tensors) -> FusedPaths:
    return FusedPaths(x["student fused"], x["student paths"], x["student weights"])


def masks(x: Tensors) -> list[Tensor]:
    return [counting(x[name]) for name in MASKS]


def call_masked_scfd(loss: Any, x: Tensors) -> object:
    return loss(levels(x, "student"), levels(x, "teacher"), mask=Pair(masks(x), [None, masks(x)[1]]))


def call_masked_mpsd(loss: Any, x: Tensors) -> object:
    return loss([fused_paths(x)], [x["teacher fused"]], mask=counting(x["mask level 1"]))


def call_masked_hfrd(loss: Any, x: Tensors) -> object:
    responses = (x["student response"], x["teacher response"], x["gaussian"])
    return loss(*responses, mask=counting(x["mask of responses"]))


def call_mpsd(loss: Any, x: Tensors) -> object:
    return loss([fused_paths(x)], [x["teacher fused"]])


def call_hfrd(loss: Any, x: Tensors) -> object:
    return loss(x["student response"], x["teacher response"], x["gaussian"])


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


CMD = [
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
            exempt={"one value per channel": "both modalities together have two"} if shared else {},
        )
        for variant, interaction, shared, reaches in (
            ("sem-cem", ("sem", "cem"), False, {"specific": CARRIED, "common": DEEPEST}),
            ("shared", ("sem", "cem"), True, {"specific": CARRIED, "common": DEEPEST}),
            ("cem-sem", ("cem", "sem"), False, {"common": CARRIED, "specific": DEEPEST}),
            ("add", ("add", "add"), False, {"common": f"{CARRIED}|{DEEPEST}"}),
        )
    ),
    Case(
        SCFDLoss,
        lambda s: SCFDLoss(*pyramid(s), mid_channels=4, interaction=("sem", "cem")),
        {**LEVELS, **MASKS},
        call_masked_scfd,
        variant="masked",
        reaches={"specific": CARRIED, "common": DEEPEST},
        exempt=BOOLEAN,
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
    Case(
        MPSDLoss,
        lambda s: MPSDLoss((s.student,), (s.teacher,), detach_path_loss=False),
        {**fused(), "mask level 1": MASKS["mask level 1"]},
        call_masked_mpsd,
        variant="masked",
        reaches={"fusion": r"student fused|adaptors\..*", "penalty": r"student (weights|paths)|adaptors\..*"},
        exempt=BOOLEAN,
    ),
    Case(
        HFRDLoss,
        lambda _: HFRDLoss(),
        {**RESPONSES, **RESPONSE_MASK},
        call_masked_hfrd,
        variant="masked",
        reaches={"response": "student response"},
        exempt=BOOLEAN,
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
    *(
        Case(
            HFRDLoss,
            lambda _, residual=residual: HFRDLoss(residual=residual, weigh_label=True),
            RESPONSES,
            call_hfrd,
            variant=f"{residual}-weighed-label",
            reaches={"response": "student response"},
        )
        for residual in ("mse", "hinge")
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
