"""What ``pair`` hands over, which mistakes it names, and that it leaves nothing behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from feature_taps.tapped import IMAGES, Residual
from torch import Tensor, nn

from mmdistill import Pair, SCFDLoss
from mmdistill.feature_taps import FeatureTaps, TapError

NAMES = ["norm", "branch"]


@pytest.fixture
def images() -> Pair[Tensor]:
    return Pair(*torch.randn(2, *IMAGES))


def recorded(model: nn.Module, *inputs: Tensor, names: list[str] = NAMES) -> FeatureTaps:
    with FeatureTaps(model, names) as taps:
        for images in inputs:
            model(images)
    return taps


class TwoBranches(nn.Module):
    """A template and a search region through layers of each modality, and a last layer that both share."""

    def __init__(self) -> None:
        super().__init__()
        self.rgb, self.tir, self.shared = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1), nn.Conv2d(4, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        rgb, tir = images.unbind(1)
        return self.shared(self.rgb(rgb)) + self.shared(self.tir(tir))  # type: ignore[no-any-return]


def test_a_trunk_called_for_rgb_and_then_for_tir(images: Pair[Tensor]) -> None:
    model = Residual().eval()
    pair = recorded(model, *images).pair()
    assert isinstance(pair, Pair)
    for levels, modality in zip(pair, images, strict=True):
        expected = model.by_hand(modality)
        torch.testing.assert_close(levels, [expected["norm"], expected["branch"]])


def test_the_calls_that_are_named_and_the_levels_in_the_order_asked_for(images: Pair[Tensor]) -> None:
    model = Residual().eval()
    templates = Pair(*torch.randn(2, 2, 3, 4, 4))
    taps = recorded(model, *templates, *images)
    norm, branch = (taps.calls(name) for name in NAMES)
    deep_first = taps.pair(["branch", "norm"], calls=(0, 1), keep=True)
    assert [[id(level) for level in levels] for levels in deep_first] == [
        [id(branch[0]), id(norm[0])],
        [id(branch[1]), id(norm[1])],
    ]
    from_the_end = taps.pair(["norm"], calls=(-1, -2), keep=True)
    assert from_the_end.rgb[0] is norm[3]
    assert from_the_end.tir[0] is norm[2]
    search = taps.pair(calls=(2, 3))
    assert search.rgb[0] is norm[2]
    assert search.tir[1] is branch[3]


def test_two_branches_and_a_layer_that_both_share() -> None:
    model = TwoBranches()
    images = torch.randn(2, 2, 3, 6, 8)
    names = ["rgb", "tir", "shared"]
    pair = recorded(model, images, names=names).pair(rgb=["rgb", "shared"], tir=["tir", "shared"])
    for modality, levels in zip(Pair._fields, pair, strict=True):
        first = getattr(model, modality)(images[:, 0 if modality == "rgb" else 1])
        torch.testing.assert_close(levels, [first, model.shared(first)])
    taps = recorded(model, images, images * 2, names=names)
    search = taps.pair(rgb=["rgb"], tir=["tir"], calls=1)
    torch.testing.assert_close(search.tir, [model.tir(images[:, 1] * 2)])


def test_both_modalities_in_one_call(images: Pair[Tensor]) -> None:
    model = Residual().eval()
    stacked = torch.cat(images)
    taps = recorded(model, stacked)
    for split in ("batch", lambda feature: [feature[:2], feature[2:]]):
        pair = taps.pair(split=split, keep=True)
        assert isinstance(pair, Pair)
        for levels, modality in zip(pair, images, strict=True):
            expected = model.by_hand(modality)
            torch.testing.assert_close(levels, [expected["norm"], expected["branch"]])
    taps = recorded(model, stacked[:2], stacked)
    assert len(taps.pair(["norm"], split="batch", calls=1).rgb[0]) == 2


MISTAKES: dict[str, tuple[int, dict[str, Any], str]] = {
    "too many calls": (4, {}, r"'norm': expected 2 calls, .*got 4; .*such as calls=\(2, 3\)"),
    "one call": (1, {}, "'norm': expected 2 calls, .*got 1; .*split=\"batch\""),
    "no such call": (2, {"calls": (2, 3)}, "expected calls 0 to 1 of 'norm', got 2"),
    "no such call from the end": (2, {"calls": (-3, 1)}, "expected calls 0 to 1 of 'norm', got -3"),
    "one call as both": (2, {"calls": (1, -1)}, "an RGB call and a TIR call of 'norm', got one call as both"),
    "one number of a trunk": (2, {"calls": 1}, "an RGB call and a TIR call of 'norm', got one call as both"),
    "branches called twice": (2, {"rgb": ["norm"], "tir": ["branch"]}, "'norm': expected 1 call, got 2; .*calls=1"),
    "stacked called twice": (2, {"split": "batch"}, "'norm': expected 1 call, got 2; .*calls=1"),
    "fewer TIR levels": (
        1,
        {"rgb": NAMES, "tir": ["norm"]},
        r"as many TIR .*\['norm'\] for \['norm', 'branch'\]",
    ),
    "a layer at two levels": (
        1,
        {"rgb": NAMES, "tir": NAMES[::-1]},
        "expected 'norm', .* got RGB level 1 and TIR level 2",
    ),
    "a level twice": (2, {"names": ["norm", "norm"]}, "pair: names: expected each once, got 'norm' twice"),
    "not tapped": (2, {"names": ["stem"]}, "'stem' is not tapped; tapped are 'norm', 'branch'"),
    "no sequence": (2, {"names": "norm"}, "pair: names: expected a sequence of names, got 'norm'"),
    "no level": (2, {"rgb": [], "tir": []}, "pair: rgb: expected at least one"),
    "odd batch": (1, {"split": "batch"}, r"'norm' to be a tensor with RGB .* shape \(3, 4, 8, 12\)"),
    "split of one": (1, {"split": lambda feature: feature}, r"split: expected \(rgb, tir\) of 'norm', got Tensor"),
    "split in no parts": (
        1,
        {"split": lambda feature: (feature, feature)},
        "split: .* of 'norm', got one object twice",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_named_and_cost_nothing(mistake: str) -> None:
    calls, arguments, message = MISTAKES[mistake]
    taps = recorded(Residual(), *torch.randn(calls, 3, *IMAGES[1:]))
    with pytest.raises(TapError, match=message):
        taps.pair(**arguments)
    assert len(taps.calls("norm")) == calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rgb": ["norm"]}, "expected rgb and tir, or names, or none"),
        ({"names": ["norm"], "rgb": ["norm"], "tir": ["branch"]}, "expected rgb and tir, or names, or none"),
        ({"calls": (0, 1, 2)}, r"calls: expected the numbers of the RGB call and the TIR call, got \(0, 1, 2\)"),
        ({"calls": (False, True)}, r"calls: expected the numbers .* got \(False, True\)"),
        ({"calls": (None, 1)}, r"calls: expected the numbers .* got \(None, 1\)"),
        ({"calls": (0, 1), "split": "batch"}, r"calls: expected one number with split, got \(0, 1\)"),
        ({"split": "channels"}, "split: expected \"batch\" or a function, got 'channels'"),
        ({"rgb": ["norm"], "tir": ["branch"], "split": "batch"}, "split: expected None with rgb and tir"),
        ({"keep": 1}, "keep: expected True or False, got 1"),
    ],
)
def test_arguments_that_are_none_are_refused(arguments: dict[str, Any], message: str, images: Pair[Tensor]) -> None:
    with pytest.raises(ValueError, match=message):
        recorded(Residual(), *images).pair(**arguments)


def test_a_level_that_never_ran_is_named(images: Pair[Tensor]) -> None:
    model = Residual()
    model.unused = nn.Identity()
    with pytest.warns(UserWarning, match="never ran: 'unused'"):
        taps = recorded(model, *images, names=["norm", "unused"])
    with pytest.raises(TapError, match="'unused' did not run since the taps were entered"):
        taps.pair()
    assert len(taps.pair(["norm"]).rgb) == 1


def test_what_was_handed_over_is_no_longer_held(images: Pair[Tensor]) -> None:
    taps = recorded(Residual(), *images)
    first = taps.pair(keep=True)
    second = taps.pair()
    assert first.rgb[0] is second.rgb[0]
    for access in (lambda: taps["norm"], lambda: taps.calls("branch"), taps.pair):
        with pytest.raises(TapError, match=r"was released by pair\(\); .*keep=True"):
            access()
    assert taps.silent == []


def step(student: nn.Module, teacher: nn.Module, taps: Pair[FeatureTaps], images: Pair[Tensor]) -> list[Any]:
    """A training step as users write it, and weak references to all features of it."""
    alive: list[Any] = []
    watch: Callable[..., None] = lambda *call: alive.append(weakref.ref(call[2]))  # noqa: E731
    student_taps, teacher_taps = taps
    handles = [model.norm.register_forward_hook(watch) for model in (student, teacher)]
    with student_taps:
        outputs = [student(modality) for modality in images]
    with torch.no_grad(), teacher_taps:
        for modality in images:
            teacher(modality)
    for handle in handles:
        handle.remove()
    loss = SCFDLoss((4, 4), (4, 4), interaction=("sem", "cem"))
    terms = loss(student_taps.pair(), teacher_taps.pair())
    (sum(output.sum() for output in outputs) + terms.total).backward()
    return alive


def test_a_training_step_leaves_no_feature_behind(images: Pair[Tensor]) -> None:
    student, teacher = Residual(), Residual().requires_grad_(False)
    taps = Pair(FeatureTaps(student, NAMES), FeatureTaps(teacher, NAMES))
    for _ in range(2):
        alive = step(student, teacher, taps, images)
        gc.collect()  # an autograd graph may hold a cycle
        assert len(alive) == 4
        assert [reference() for reference in alive] == [None] * 4
    assert student.norm.weight.grad is not None


def test_an_exception_in_the_block_leaves_no_feature_behind(images: Pair[Tensor]) -> None:
    class OutOfMemory(Residual):
        def forward(self, images: Tensor) -> Tensor:
            super().forward(images)
            features.append(weakref.ref(taps["norm"]))
            raise RuntimeError("out of memory")

    features: list[Any] = []
    model = OutOfMemory()
    taps = FeatureTaps(model, NAMES)
    with pytest.raises(RuntimeError, match="out of memory"), taps:
        model(images.rgb)
    gc.collect()
    assert features[0]() is None
    with pytest.raises(TapError, match="'norm' was released, because the block ended with an exception"):
        taps["norm"]
