"""Candidate elimination: tokens that a tracker left go back to their places, or the call says what is missing."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill import FeatureTaps, Pair, SCFDLoss, ShapeError
from mmdistill.tokens import TokenLayout, tokens_to_map

LAYOUT = TokenLayout(cls=1, template=(2, 2), search=(3, 4), may_drop=("search",))


def kept_of(batch: int, size: int, count: int, seed: int = 0) -> Tensor:
    """Different tokens of each sample, in any order."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randperm(size, generator=generator)[:count] for _ in range(batch)])


def placed(tokens: np.ndarray, kept: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The map and the mask, token by token."""
    batch, count, channels = tokens.shape
    features, mask = np.zeros((batch, channels, height, width)), np.zeros((batch, 1, height, width), dtype=bool)
    for sample in range(batch):
        for token in range(count):
            row, column = divmod(int(kept[sample, token]), width)
            features[sample, :, row, column] = tokens[sample, token]
            mask[sample, 0, row, column] = True
    return features, mask


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.data())
def test_kept_tokens_stand_where_numpy_puts_them(batch: int, height: int, width: int, data: st.DataObject) -> None:
    kept = kept_of(batch, height * width, data.draw(st.integers(1, height * width)), data.draw(st.integers(0, 99)))
    tokens = torch.randn(batch, 2 + kept.shape[1], 3, dtype=torch.float64)
    layout = TokenLayout(cls=2, search=(height, width))
    features, mask = layout.map(tokens, "search", kept=kept)
    expected, counted = placed(tokens[:, 2:].numpy(), kept.numpy(), height, width)
    np.testing.assert_array_equal(features.numpy(), expected)
    np.testing.assert_array_equal(mask.numpy(), counted)
    assert mask.dtype == torch.bool
    parts = layout.split(tokens, kept={"search": kept})
    assert parts["search"].data_ptr() == tokens[:, 2:].data_ptr()
    for given_back in (parts, {**parts, "search": features}):
        assert torch.equal(layout.join(given_back, kept={"search": kept}), tokens)


def test_several_parts_lose_tokens_each_by_its_own_index() -> None:
    layout = TokenLayout(template=(2, 2), rgb=(2, 3), registers=1, tir=(2, 3), may_drop=("template", "rgb", "tir"))
    kept = {"rgb": kept_of(2, 6, 4, 1), "template": kept_of(2, 4, 3, 2), "tir": None}
    tokens = torch.randn(2, 3 + 4 + 1 + 6, 5)
    for name, start, size in (("template", 0, (2, 2)), ("rgb", 3, (2, 3))):
        index = kept[name]
        assert index is not None
        expected, counted = placed(tokens[:, start : start + index.shape[1]].numpy(), index.numpy(), *size)
        features, mask = layout.map(tokens, name, kept=kept)
        np.testing.assert_array_equal(features.numpy(), expected.astype("float32"))
        np.testing.assert_array_equal(mask.numpy(), counted)
    with pytest.raises(
        ShapeError, match=r"got 14; if rgb or tir lost tokens too, pass kept=\{'template': index, 'rgb'"
    ):
        layout.map(tokens, "template", kept=kept["template"])
    features, mask = layout.map(tokens, "tir", kept=kept)
    assert torch.equal(features, tokens_to_map(tokens[:, 8:], (2, 3)))
    assert bool(mask.all())
    maps = {name: layout.map(tokens, name, kept=kept)[0] for name in ("template", "rgb", "tir")}
    assert torch.equal(layout.join({**maps, "registers": tokens[:, 7:8]}, kept=kept), tokens)


def test_none_says_that_all_tokens_are_there() -> None:
    tokens = torch.randn(2, LAYOUT.count, 3)
    features, mask = LAYOUT.map(tokens, "search", kept=None)
    assert features.data_ptr() == tokens[:, 5:].data_ptr()
    assert (tuple(mask.shape), mask.dtype, bool(mask.all())) == ((2, 1, 3, 4), torch.bool, True)
    assert torch.equal(LAYOUT.join(LAYOUT.split(tokens, kept=None), kept=None), tokens)


def test_gradients_return_to_the_tokens_left() -> None:
    kept = kept_of(2, 12, 5)
    tokens = torch.randn(2, 10, 3, requires_grad=True)
    features, _ = LAYOUT.map(tokens, "search", kept=kept)
    weights = torch.randn(2, 3, 3, 4)
    (features * weights).sum().backward()
    expected = torch.zeros(2, 10, 3)
    for sample, token in np.ndindex(2, 5):
        row, column = divmod(int(kept[sample, token]), 4)
        expected[sample, 5 + token] = weights[sample, :, row, column]
    torch.testing.assert_close(tokens.grad, expected)


class Distillation(nn.Module):
    """A loss on the search region of student and teacher, each with its own tokens left."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = SCFDLoss((3,), (5,), interaction=("sem",))

    def forward(self, student: Tensor, teacher: Tensor, kept: Tensor, kept_by_teacher: Tensor) -> Tensor:
        ours, here = LAYOUT.map(student, "search", kept=kept)
        theirs, there = LAYOUT.map(teacher, "search", kept=kept_by_teacher)
        total: Tensor = self.loss(([ours], [ours]), ([theirs], [theirs]), mask=here & there).total
        return total


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_one_graph_serves_any_number_of_tokens(fresh_compiler: None) -> None:  # noqa: ARG001
    distillation = Distillation().eval()
    compiled = torch.compile(distillation, fullgraph=True, backend="aot_eager", dynamic=True)
    # Sizes that PyTorch would take for constants, or for each other, are avoided.
    for count, other in ((7, 9), (6, 11)):
        tokens = torch.randn(2, 5 + count, 3, requires_grad=True)
        inputs = tokens, torch.randn(2, 5 + other, 5), kept_of(2, 12, count, 3), kept_of(2, 12, other, 4)
        with torch.compiler.set_stance("fail_on_recompile" if count == 6 else "default"):
            total = compiled(*inputs)
        expected = distillation(*inputs)
        torch.testing.assert_close(total, expected)
        for mine, theirs in zip(torch.autograd.grad(total, tokens), torch.autograd.grad(expected, tokens), strict=True):
            torch.testing.assert_close(mine, theirs)


def test_a_sequence_that_lost_tokens_says_what_to_do() -> None:
    layout = TokenLayout(template=(8, 8), search=(16, 16))
    tokens = torch.zeros(1, 244, 2)
    for call in (layout.split, lambda tokens: layout.map(tokens, "search")):
        with pytest.raises(ShapeError, match=r"expected 320 \(.*\), got 244; .*candidate elimination.*kept=index"):
            call(tokens)
    with pytest.raises(ShapeError, match=r"got 180; .*candidate elimination.*kept="):
        tokens_to_map(tokens[:, 64:], (16, 16))
    with pytest.raises(ShapeError, match=r"expected 320 .*, got 321$"):
        layout.split(torch.zeros(1, 321, 2))
    stated = r"expected 254 \(template 8x8 \+ search 190 kept of 16x16\), got 244$"
    with pytest.raises(ShapeError, match=stated):
        layout.map(tokens, "search", kept=kept_of(1, 256, 190))


def test_a_layout_that_may_lose_tokens_asks_for_kept_from_the_first_step_on() -> None:
    tokens = torch.zeros(2, LAYOUT.count, 3)
    calls = (LAYOUT.split, lambda x: LAYOUT.map(x, "template"), lambda x: LAYOUT.join(LAYOUT.split(x, kept=None)))
    for call in calls:
        with pytest.raises(
            ValueError, match=r"TokenLayout: \w+: kept: expected an index for search, or None .* got neither"
        ):
            call(tokens)


GOOD = kept_of(2, 12, 5)


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (GOOD.int(), r"kept search: dtype: expected torch.int64, .*index.long\(\), got torch.int32"),
        (GOOD.float(), r"kept search: dtype: expected torch.int64, .*index.long\(\), got torch.float32"),
        (GOOD[0], r"kept search: axes: expected 2 \(B, n\), got \(5,\)"),
        (GOOD[:1], "kept search: batch: expected 2 as tokens, got 1"),
        (GOOD[:, :0], "kept search: tokens: expected at least 1, got 0"),
        (torch.cat([GOOD, GOOD, GOOD], dim=1), "kept search: tokens: expected at most 12, got 15"),
        (GOOD.to("meta"), "kept search: device: expected cpu as tokens, got meta"),
        ([1, 2], r"kept search: type: expected a tensor \(B, n\), or None, got list"),
        (torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, 12, 4]]), "kept search: values: expected from 0 to 11, got 12"),
        (torch.tensor([[0, 1, 2, 3, -1], [0, 1, 2, 3, 4]]), "kept search: values: expected from 0 to 11, got -1"),
        (
            torch.tensor([[7, 1, 2, 3, 4], [0, 9, 2, 3, 9]]),
            "kept search: values: expected each token once, got 9 twice",
        ),
    ],
)
def test_an_index_that_is_none_is_named(kept: Tensor, says: str) -> None:
    with pytest.raises(ShapeError, match=f"^TokenLayout: {says}$"):
        LAYOUT.map(torch.zeros(2, 10, 3), "search", kept=kept)


def test_parts_and_names_that_do_not_fit_are_named() -> None:
    tokens = torch.zeros(2, 10, 3)
    with pytest.raises(ValueError, match="map: kept: expected search, got 'template'"):
        LAYOUT.map(tokens, "template", kept=GOOD)
    with pytest.raises(ValueError, match="split: kept: expected cls or search, got 'serach'"):
        TokenLayout(cls=1, search=(3, 4)).split(tokens, kept={"serach": GOOD})
    with pytest.raises(ValueError, match="split: kept: expected a mapping"):
        TokenLayout(cls=1, search=(3, 4)).split(tokens, kept=GOOD)
    parts = {"cls": tokens[:, :1], "template": tokens[:, :4], "search": torch.zeros(2, 12, 3)}
    with pytest.raises(ShapeError, match="search: tokens: expected 5 kept of 3x4, got 12"):
        LAYOUT.join(parts, kept=GOOD)
    for may_drop in (("serach",), "search", [3]):
        with pytest.raises(ValueError, match="TokenLayout: may_drop"):
            TokenLayout(search=(3, 4), may_drop=may_drop)  # type: ignore[arg-type]


def test_values_are_looked_at_only_where_asked() -> None:
    doubled = torch.tensor([[1, 1]])
    layout = TokenLayout(search=(1, 3), check_values=False)
    features, mask = layout.map(torch.ones(1, 2, 1), "search", kept=doubled)
    assert (int(features.sum()), int(mask.sum())) == (1, 1)


def test_layouts_with_options_are_values_too() -> None:
    assert repr(LAYOUT) == "TokenLayout(cls=1, template=(2, 2), search=(3, 4), may_drop=('search',))"
    assert TokenLayout(search=(3, 4)) != TokenLayout(search=(3, 4), may_drop=["search"])
    assert len({LAYOUT, copy.deepcopy(LAYOUT), pickle.loads(pickle.dumps(LAYOUT))}) == 1


def test_maps_are_those_of_each_level_and_modality() -> None:
    rgb, tir = ([torch.randn(2, 13, channels) for channels in (3, 5)] for _ in range(2))
    layout = TokenLayout(cls=1, search=(3, 4))
    levels = layout.maps(Pair(rgb, tir), "search")
    for tokens, maps in zip((rgb, tir), levels, strict=True):
        assert [torch.equal(x, each[:, 1:].mT.reshape(2, -1, 3, 4)) for x, each in zip(maps, tokens, strict=True)]
    named = layout.maps(Pair(dict(zip("ab", rgb, strict=True)), dict(zip("ab", tir, strict=True))), "search")
    assert all(map(torch.equal, [*named.rgb, *named.tir], [*levels.rgb, *levels.tir]))


def test_maps_of_both_modalities_in_one_sequence_are_of_two_grids() -> None:
    layout = TokenLayout(rgb=(3, 4), tir=(3, 4))
    model = nn.Sequential(nn.Linear(5, 6), nn.Linear(6, 7))
    with FeatureTaps(model, ["0", "1"]) as taps:
        model(torch.randn(2, 24, 5))
    levels = layout.maps(taps, Pair("rgb", "tir"))
    for number, tokens in enumerate(taps.values()):
        assert torch.equal(levels.rgb[number].flatten(2).mT, tokens[:, :12])
        assert torch.equal(levels.tir[number].flatten(2).mT, tokens[:, 12:])
    for one_for_both in (taps, list(taps.values())):
        with pytest.raises(ValueError, match="TokenLayout: maps: expected a Pair of levels, or a Pair of two grids"):
            layout.maps(one_for_both, "rgb")


def test_maps_with_kept_give_masks() -> None:
    indices = Pair(kept_of(2, 12, 5, 1), kept_of(2, 12, 5, 2))
    whole, left = torch.randn(2, 2, 17, 3), torch.randn(2, 2, 10, 3)  # modality, batch, tokens, channels
    tokens = Pair([whole[0], left[0]], [whole[1], left[1]])
    maps, masks = LAYOUT.maps(tokens, "search", kept=Pair(*([None, index] for index in indices)))
    for side, levels in enumerate(tokens):
        for number, kept in enumerate((None, indices[side])):
            features, mask = LAYOUT.map(levels[number], "search", kept=kept)
            assert torch.equal(maps[side][number], features)
            assert torch.equal(masks[side][number], mask)
    late = Pair(tokens.rgb[1:], tokens.tir[1:])
    for kept in (indices, Pair([indices.rgb], [{"search": indices.tir}])):  # of all levels alike, and by level
        assert torch.equal(LAYOUT.maps(late, "search", kept=kept)[0].tir[0], maps.tir[1])
    _, same = LAYOUT.maps(late, "search", kept=indices.rgb)  # one index for both
    assert torch.equal(same.rgb[0], same.tir[0])
    everything, full = LAYOUT.maps(Pair(tokens.rgb[:1], tokens.tir[:1]), "search", kept=None)
    assert full.rgb[0].all()
    assert torch.equal(everything.rgb[0], maps.rgb[0])
    with pytest.raises(ValueError, match="TokenLayout: map: kept: expected an index for search"):
        LAYOUT.maps(tokens, "search")
    with pytest.raises(ShapeError, match="TokenLayout: kept tir: levels: expected 2, got 3"):
        LAYOUT.maps(tokens, "search", kept=Pair([None, indices.rgb], [None] * 3))
    with pytest.raises(ShapeError, match="TokenLayout: tir: levels: expected at least 1, got 0"):
        LAYOUT.maps(Pair(tokens.rgb[:1], []), "search", kept=None)
    with pytest.raises(ShapeError, match="TokenLayout: rgb: type: expected a sequence of maps"):
        LAYOUT.maps(Pair(tokens.rgb[0], tokens.tir[0]), "search", kept=None)


def test_maps_are_compiled_as_one_graph() -> None:
    layout = TokenLayout(cls=1, search=(3, 4))
    tokens, kept = Pair([torch.randn(2, 13, 3)], [torch.randn(2, 6, 3)]), Pair([None], [kept_of(2, 12, 5)])

    def maps(tokens: Pair[list[Tensor]], kept: Pair[list[Tensor | None]]) -> list[Tensor]:
        levels, masks = layout.maps(tokens, "search", kept=kept)
        return [*levels.rgb, *levels.tir, *masks.rgb, *masks.tir]

    compiled = torch.compile(maps, backend="eager", fullgraph=True)
    assert all(map(torch.equal, compiled(tokens, kept), maps(tokens, kept)))
