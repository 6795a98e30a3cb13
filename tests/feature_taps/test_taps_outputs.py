"""Layers whose output is no tensor, and what is chosen of it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from feature_taps.tapped import COMPILING, IMAGES, Residual, count_hooks
from torch import Tensor, nn

from mmdistill import FusedPaths, MPSDFusion, MPSDLoss, Pair
from mmdistill.feature_taps import FeatureTaps, TapError

pytestmark = COMPILING


class Attention(nn.Module):
    def __init__(self, pack: Callable[[Tensor, Tensor], object], take: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner = Packed(pack)
        self.take = take

    def forward(self, images: Tensor) -> Tensor:
        return self.take(self.inner(images)).relu_()


class Packed(nn.Module):
    def __init__(self, pack: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, images: Tensor) -> object:
        return self.pack(images * 2, images.mean())


PACKINGS = {
    "tuple": (lambda main, other: (main, other), operator.itemgetter(0)),
    "list": (lambda main, other: [other, main], operator.itemgetter(1)),
    "dict": (lambda main, other: {"main": main, "other": [other]}, operator.itemgetter("main")),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_layer_that_gives_no_tensor_asks_for_a_choice_and_takes_it(packing: str) -> None:
    pack, take = PACKINGS[packing]
    model = Attention(pack, take)
    images = torch.randn(IMAGES)
    with (
        pytest.raises(
            TapError, match=rf"'inner': expected a tensor .*, got a {packing}; select one, .*select=\{{'inner'"
        ),
        FeatureTaps(model, ["inner"]),
    ):
        model(images)
    with FeatureTaps(model, ["inner", ""], select={"inner": take}) as taps:
        output = model(images)
    torch.testing.assert_close(taps["inner"], images * 2)
    torch.testing.assert_close(output, (images * 2).relu())


class ModelOutput(NamedTuple):
    main: Tensor
    others: list[Tensor]
    name: str


def test_a_choice_may_be_any_pytree_and_each_tensor_of_it_is_kept_from_overwrites() -> None:
    def pack(main: Tensor, other: Tensor) -> ModelOutput:
        return ModelOutput(main, [other, main * 3], "packed")

    def overwrite(output: ModelOutput) -> Tensor:
        for tensor in output.others:
            tensor.zero_()
        return output.main

    model = Attention(pack, overwrite)
    images = torch.randn(IMAGES)
    chosen = {"all": lambda output: output, "some": lambda output: {"last": output.others[1], "main": (output[0],)}}
    with FeatureTaps(model, ["inner"], select={"inner": chosen["all"]}) as taps:
        output = model(images)
    torch.testing.assert_close(output, (images * 2).relu())
    assert isinstance(taps["inner"], ModelOutput)
    torch.testing.assert_close(taps["inner"].main, images * 2)
    torch.testing.assert_close(taps["inner"].others, [images.mean(), images * 6])
    assert taps["inner"].name == "packed"
    with FeatureTaps(model, ["inner"], select={"inner": chosen["some"]}) as taps:
        model(images)
    torch.testing.assert_close(taps["inner"], {"last": images * 6, "main": (images * 2,)})
    with FeatureTaps(model, ["inner"], select={"inner": chosen["all"]}, copy=False) as taps:
        model(images)
    with pytest.raises(TapError, match="'inner' was overwritten in place"):
        taps["inner"]


def test_a_choice_that_is_a_view_is_kept_from_overwrites() -> None:
    model = Residual()
    images = torch.randn(IMAGES)
    with FeatureTaps(model, ["norm"], select={"norm": lambda output: output[:, 1:]}) as taps:
        model(images)
    torch.testing.assert_close(taps["norm"], model.by_hand(images)["norm"][:, 1:])


def test_a_fusion_is_tapped_with_its_paths_and_weights() -> None:
    class Fusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion = MPSDFusion(4)

        def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
            return self.fusion(Pair(rgb, tir)).fused.relu_()

    model, teacher = Fusing(), torch.randn(2, 6, 5, 7)
    images = torch.randn(2, 2, 4, 5, 7)
    with FeatureTaps(model, ["fusion"]) as taps:
        model(*torch.randn(2, 2, 4, 3, 3))
        model(*images)
    want = model.fusion(Pair(*images))
    assert isinstance(taps["fusion"], FusedPaths)
    torch.testing.assert_close(taps["fusion"], want)
    loss = MPSDLoss((4,), (6,))
    terms, expected = loss([taps["fusion"]], [teacher]), loss([want], [teacher])
    torch.testing.assert_close(terms.total, expected.total)
    parameters = list(model.parameters())
    for got, by_hand in zip(
        torch.autograd.grad(terms.total, parameters), torch.autograd.grad(expected.total, parameters), strict=True
    ):
        torch.testing.assert_close(got, by_hand)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (operator.itemgetter("main"), r"select\['inner'\] failed on a tuple: TypeError.*indices"),
        (operator.itemgetter(7), r"select\['inner'\] failed on a tuple: IndexError"),
        (operator.attrgetter("hidden"), r"select\['inner'\] failed on a tuple: AttributeError"),
        (lambda output: (None, len(output)), r"select\['inner'\]: expected tensors, got a tuple"),
    ],
)
def test_a_choice_that_fails_is_named(select: Callable[[object], object], message: str) -> None:
    model = Attention(lambda main, other: (main, other), operator.itemgetter(0))
    with pytest.raises(TapError, match=message), FeatureTaps(model, ["inner"], select={"inner": select}):
        model(torch.randn(IMAGES))
    assert count_hooks(model) == 0


def test_a_choice_for_an_untapped_layer_is_refused() -> None:
    with pytest.raises(TapError, match=r"select: expected tapped names, got \['1'\]"):
        FeatureTaps(nn.Sequential(nn.Identity()), ["0"], select={"1": operator.itemgetter(0)})
