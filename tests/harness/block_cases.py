"""The public blocks, which are modules and functions, as cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.case import Case, Input, Sizes, Tensors, in_mode_of, pyramid, uniform
from torch import Tensor, nn

from mmdistill import ABF, CEM, SEM, ABFChain, MPSDFusion, Pair
from mmdistill.fusion import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion
from mmdistill.resize import resize_levels, resize_like
from mmdistill.tokens import TokenLayout, map_to_tokens, tokens_to_map

PAIR = {"rgb": Input("B C H W"), "tir": Input("B C H W")}

PRODUCT = {"large float16": "the product of two features of 1e3 is no float16 number; a loss widens first"}

STATED = {"every size": "its height and width are stated where it is made"}
LIKE = {"nan in like": "only its height and width are read", "another device": "only its height and width are read"}


class Function(nn.Module):
    """A public function as a module."""

    def __init__(self, function: Callable[..., object]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: object) -> object:
        return self.function(*args)


def call_pair(block: Any, x: Tensors) -> object:
    return block(Pair(x["rgb"], x["tir"]))


def round_trip(s: Sizes) -> nn.Module:
    """A class token and a search grid, joined to one sequence and taken apart again."""
    layout = TokenLayout(cls=1, search=(s.height, s.width))

    def join_and_split(cls: Tensor, search: Tensor) -> tuple[Tensor, Tensor]:
        tokens = layout.join({"cls": cls, "search": search})
        return layout.split(tokens)["cls"], layout.map(tokens, "search")

    return Function(join_and_split)


def eliminated(s: Sizes) -> nn.Module:
    """A search grid of which half the tokens are left, put back to their places and joined again."""
    layout = TokenLayout(cls=1, search=(s.height, s.width), may_drop=("search",))

    def there_and_back(cls: Tensor, search: Tensor, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        kept = in_mode_of(order, lambda: order.argsort(dim=-1)[..., : (order.shape[-1] + 1) // 2])
        tokens = layout.join({"cls": cls, "search": search}, kept=kept)
        features, mask = layout.map(tokens, "search", kept=kept)
        return features, mask.to(features.dtype), layout.join({"cls": cls, "search": features}, kept={"search": kept})

    return Function(there_and_back)


MODULES = [
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
    *(
        Case(
            MPSDFusion,
            lambda s, normalize=normalize: MPSDFusion(s.student, normalize=normalize),
            PAIR,
            call_pair,
            variant=f"normalize-{normalize}",
            outputs=("B C H W", "3 B C H W", "B 3"),
            exempt={"large float16 module": "the product of two features of 1e3 is no float16 number"},
        )
        for normalize in ("layer_norm", "paths")
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
        TokenLayout,
        eliminated,
        {
            "cls": Input("B 1 C"),
            "search": Input("B N/2 C", independent="N/2"),
            "order": Input("B N", "label", uniform, scaled=False),
        },
        lambda function, x: function(x["cls"], x["search"], x["order"]),
        variant="kept",
        outputs=("B C H W", "B 1 H W", "B N/2+1 C"),
        exempt={**STATED, "nan in order": "an index is made of it"},
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
