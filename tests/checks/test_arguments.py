"""Whatever a public class is made with: it works, or it says in one line which class, which argument and what came."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import pyramid, pyramids
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import mmdistill
import mmdistill.fusion
import mmdistill.losses
import mmdistill.tir_cmd
from mmdistill import (
    ABF,
    ABFChain,
    BBEDistiller,
    CMDLoss,
    FeatureTaps,
    FusedPaths,
    HFRDLoss,
    MPSDFusion,
    MPSDLoss,
    Pair,
    SCFDLoss,
    TapError,
    TCLDistiller,
    TokenLayout,
    tokens_to_map,
)
from mmdistill.fusion import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss
from mmdistill.tir_cmd import (
    BranchSetting,
    CenterArea,
    Detection,
    InitialWeights,
    LearningRates,
    RandomSampling,
    SaliencyDetector,
    TorchvisionDetector,
    cut_patches,
    mix,
)

CHANNELS = {"student_channels": (2, 3), "teacher_channels": (3, 4)}
NUMBERS = (0, -1, 0.5, -0.5, 1e300, 1e-300, 1e-40, 10**23, -(10**23), 10**5000, 3 + 0j)
NOT_FINITE = (float("nan"), float("inf"), float("-inf"))
SEQUENCES = ((), [], {}, (1, -2), (float("nan"),), (None,), ("x",), ([],), {"x": 1})
TEXTS = ("", "x", "é" * 5000, b"x", "a\0b", "a\nb")
OTHERS = (None, True, False, object(), torch.ones(2), torch.tensor(float("nan")), torch.float32, torch.int8)
BAD: tuple[Any, ...] = (*NUMBERS, *NOT_FINITE, *SEQUENCES, *TEXTS, *OTHERS)


@dataclass(frozen=True)
class Made:
    """A public class or function with arguments that it takes, and a small use of what it makes."""

    subject: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)
    use: Callable[[Any], object] = lambda made: made
    skip: tuple[str, ...] = ()


def maps(channels: int = 2) -> Tensor:
    return torch.rand(2, channels, 4, 4)


def fused_pair(block: Any) -> object:
    return block(Pair(maps(block.channels), maps(block.channels)))


def response(loss: Any) -> object:
    return loss(torch.rand(2, 4, 4, requires_grad=True), torch.rand(2, 4, 4), torch.rand(2, 4, 4))


def paths() -> FusedPaths:
    return FusedPaths(maps().requires_grad_(), torch.rand(3, 2, 2, 4, 4), torch.rand(2, 3).softmax(1))


def levels(channels: tuple[int, ...]) -> list[Tensor]:
    return pyramid(channels, (8, 8))


def use_pyramids(loss: Any) -> object:
    return loss([x.requires_grad_() for x in levels((2, 3))], levels((3, 4)))


def use_scfd(loss: Any) -> object:
    return loss(pyramids((2, 3), (8, 8), requires_grad=True), pyramids((3, 4), (8, 8)))


def use_bbe(loss: Any) -> object:
    features = maps().requires_grad_()
    boxes = torch.rand(2, 5, 4) + 1
    return loss(torch.rand(2, 2, 1, 1), features, boxes, torch.rand(2, 4) + 1)


def predictor(modulation: Tensor, features: Tensor, proposals: Tensor) -> Tensor:
    return (modulation * features).mean(dim=(1, 2, 3))[:, None] * proposals[..., 2]


def use_tcl(loss: Any) -> object:
    return loss(torch.rand(2, 1, 2, 3, 3), torch.rand(1, 1, 2, 4, 4, requires_grad=True), torch.rand(1, 1, 4, 4))


def images() -> Pair[Tensor]:
    return Pair(torch.rand(3, 24, 32), torch.rand(1, 24, 32))


def sample(sampler: Any) -> object:
    return sampler(images())


def tap(taps: FeatureTaps) -> object:
    with taps:
        TAPPED(torch.rand(1, 2))
    return dict(taps)


TAPPED = nn.Sequential(nn.Linear(2, 2))


def use_abf(block: ABF) -> object:
    return block.expand(block.carry(maps(block.in_channels), None))


def use_cmd(loss: CMDLoss) -> object:
    response = torch.rand(2, 4, 4, requires_grad=True)
    return loss(student_response=response, teacher_response=torch.rand(2, 4, 4), gaussian=torch.rand(2, 4, 4))


def use_layout(layout: TokenLayout) -> object:
    return layout.split(torch.rand(1, layout.count, 2)) if layout.count < 10**4 else None


ALL = [
    Made(ABF, {"in_channels": 2, "mid_channels": 2, "out_channels": 3, "fuse": False}, use_abf),
    Made(ABFChain, {**CHANNELS, "mid_channels": 2}, lambda chain: chain(levels((2, 3)))),
    Made(MPSDFusion, {"channels": 2}, fused_pair),
    Made(SpatialAttentionFusion, {"channels": 2}, fused_pair),
    Made(ChannelAttentionFusion, {"channels": 2}, fused_pair),
    Made(ConcatFusion, {"channels": 2}, fused_pair),
    Made(SCFDLoss, {**CHANNELS, "interaction": ("sem", "cem")}, use_scfd),
    Made(MPSDLoss, {"student_channels": (2,), "teacher_channels": (3,)}, lambda loss: loss([paths()], [maps(3)])),
    Made(HFRDLoss, {}, response),
    Made(CMDLoss, {"hfrd": HFRDLoss()}, use_cmd),
    Made(KDLoss, {}, lambda loss: loss(torch.rand(2, 4, 4, requires_grad=True), torch.rand(2, 4, 4))),
    Made(FitNetsLoss, dict(CHANNELS), use_pyramids),
    Made(ReviewKDLoss, dict(CHANNELS), use_pyramids),
    Made(ModalityDistillationLoss, dict(CHANNELS), use_pyramids),
    Made(TCLDistiller, {}, use_tcl),
    Made(BBEDistiller, {"predictor": predictor, "scale": "unit"}, use_bbe),
    Made(CenterArea, {}, sample),
    Made(RandomSampling, {}, sample),
    Made(Detection, {}, sample),
    Made(SaliencyDetector, {}, lambda detector: detector(images().rgb)),
    Made(TorchvisionDetector, {"model": lambda _: None}),
    Made(InitialWeights),
    Made(LearningRates),
    Made(BranchSetting, {"name": "", "title": "", "updated": (), "reference": "rgb", "test": "tir"}),
    Made(FeatureTaps, {"model": TAPPED, "names": ["0"]}, tap),
    Made(TokenLayout, {"search": (4, 4)}, use_layout),
    Made(tokens_to_map, {"tokens": torch.rand(1, 16, 2), "size": (4, 4)}, skip=("tokens",)),
    Made(cut_patches, {"pair": images(), "boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]])}, skip=("pair",)),
    Made(mix, {"pair": Pair(maps(), maps()), "modalities": "rgb-tir"}, skip=("pair",)),
]


def named_arguments(made: Made) -> Iterator[str]:
    for name, parameter in inspect.signature(made.subject).parameters.items():
        if name not in made.skip:
            yield "search" if parameter.kind is parameter.VAR_KEYWORD else name


TRIED = [(made, name) for made in ALL for name in named_arguments(made)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("made", "name"), TRIED, ids=[f"{made.subject.__name__}-{name}" for made, name in TRIED])
def test_any_argument_works_or_is_named(made: Made, name: str) -> None:
    for value in BAD:
        try:
            subject = made.subject(**{**made.arguments, name: value})
        except (ValueError, TapError) as error:
            said = str(error)
            assert made.subject.__name__ in said, said
            assert name in said, said
            assert len(said) <= 300, said
            assert "\n" not in said, said
            continue
        outcome = made.use(subject)
        for values in pytree.tree_leaves(outcome):
            assert not isinstance(values, Tensor) or bool(values.isfinite().all()), (name, value)


@pytest.mark.parametrize("name", ["folder", "teacher", "dtype"])
def test_a_cache_names_its_arguments_too(name: str, tmp_path: Path) -> None:
    cache = pytest.importorskip("mmdistill.feature_cache", reason="safetensors is not installed")
    for number, value in enumerate(BAD):
        if name == "folder" and isinstance(value, str) and value and "\0" not in value:
            continue  # the name of a folder like any other
        said = ""
        try:
            made = cache.FeatureCache(**{"folder": tmp_path / str(number), "teacher": "t", name: value})
        except ValueError as error:
            said = str(error)
        if said:
            assert said.startswith(f"FeatureCache: {name}: expected")
            continue
        made.put("key", {"layer": torch.rand(3)})
        assert made.get(["key"])["layer"].isfinite().all()


def test_no_public_class_goes_without() -> None:
    modules = (mmdistill, mmdistill.losses, mmdistill.fusion, mmdistill.tir_cmd)
    classes = {value for module in modules for value in vars(module).values() if inspect.isclass(value)}
    checked = {cls for cls in classes if cls.__module__.startswith("mmdistill") and cls.__init__ is not object.__init__}
    data = {"Pair", "FusedPaths", "Terms", "SEM", "CEM", "Patches", "Path"}  # hold what is given, or take nothing
    left = {cls.__name__ for cls in checked if not issubclass(cls, Exception)} - data
    assert left == {made.subject.__name__ for made in ALL if inspect.isclass(made.subject)}
