import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill import Pair, SCFDLoss, ShapeError, Terms
from mmdistill.tokens import TokenLayout, map_to_tokens, tokens_to_map

LAYOUT = TokenLayout(cls=1, template=(2, 3), search=(4, 5), registers=2)


def test_token_i_of_a_grid_stands_at_row_i_over_width() -> None:
    tokens = torch.randn(2, 3 + 4 * 5, 7)
    features = tokens_to_map(tokens, (4, 5), start=3)
    assert features.shape == (2, 7, 4, 5)
    for index in range(4 * 5):
        torch.testing.assert_close(features[:, :, index // 5, index % 5], tokens[:, 3 + index], rtol=0, atol=0)


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
def test_a_map_survives_the_way_there_and_back(batch: int, channels: int, height: int, width: int) -> None:
    features = torch.randn(batch, channels, height, width)
    tokens = map_to_tokens(features)
    np.testing.assert_array_equal(tokens.numpy(), features.flatten(2).transpose(1, 2).numpy())
    torch.testing.assert_close(tokens_to_map(tokens, (height, width)), features, rtol=0, atol=0)


def test_maps_share_the_tokens_memory() -> None:
    tokens = torch.randn(2, LAYOUT.count, 4)
    assert LAYOUT.map(tokens, "search").data_ptr() == tokens[:, 7:].data_ptr()
    features = torch.randn(2, 4, 3, 5)
    assert map_to_tokens(features).data_ptr() == features.data_ptr()


def test_parts_stand_in_the_stated_order() -> None:
    tokens = torch.arange(29.0)[None, :, None].expand(2, 29, 3)
    assert LAYOUT.count == 29
    parts = LAYOUT.split(tokens)
    assert list(parts) == ["cls", "template", "search", "registers"]
    assert [(int(part[0, 0, 0]), int(part[0, -1, 0])) for part in parts.values()] == [(0, 0), (1, 6), (7, 26), (27, 28)]
    assert LAYOUT.map(tokens, "template")[1, 2].tolist() == [[1, 2, 3], [4, 5, 6]]


def test_join_is_the_inverse_of_split_and_map_in_any_order() -> None:
    tokens = torch.randn(2, 29, 3)
    parts = LAYOUT.split(tokens)
    torch.testing.assert_close(LAYOUT.join(dict(reversed(parts.items()))), tokens, rtol=0, atol=0)
    maps = {name: LAYOUT.map(tokens, name) for name in ("template", "search")}
    torch.testing.assert_close(LAYOUT.join({**parts, **maps}), tokens, rtol=0, atol=0)


def test_gradients_return_to_their_own_tokens() -> None:
    tokens = torch.randn(2, 29, 3, requires_grad=True)
    LAYOUT.map(tokens, "search").sum().backward()
    expected = torch.zeros(2, 29, 3)
    expected[:, 7:27] = 1
    torch.testing.assert_close(tokens.grad, expected)


def test_layouts_are_values() -> None:
    assert repr(LAYOUT) == "TokenLayout(cls=1, template=(2, 3), search=(4, 5), registers=2)"
    assert TokenLayout(search=[4, 5]) == TokenLayout(search=(4, 5)) != TokenLayout(search=(5, 4))
    assert len({LAYOUT, copy.deepcopy(LAYOUT), pickle.loads(pickle.dumps(LAYOUT))}) == 1


class OneStreamDistillation(nn.Module):
    """Both modalities of a one-stream tracker in one sequence, distilled from a teacher of maps."""

    def __init__(self) -> None:
        super().__init__()
        self.layout = TokenLayout(cls=1, template=(2, 2), rgb=(4, 6), tir=(4, 6))
        self.loss = SCFDLoss((3,), (5,), interaction=("sem",))

    def forward(self, tokens: Tensor, teacher: Pair[list[Tensor]]) -> Terms:
        return self.loss(Pair(*([self.layout.map(tokens, name)] for name in Pair._fields)), teacher)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_the_losses_take_maps_of_tokens() -> None:
    distillation = OneStreamDistillation().eval()
    tokens = torch.randn(2, distillation.layout.count, 3, requires_grad=True)
    teacher = Pair([torch.randn(2, 5, 4, 6)], [torch.randn(2, 5, 4, 6)])
    parts = distillation.layout.split(tokens)
    maps = Pair(*([parts[name].transpose(1, 2).reshape(2, 3, 4, 6).contiguous()] for name in Pair._fields))
    expected = distillation.loss(maps, teacher).total
    got = distillation(tokens, teacher).total
    torch.testing.assert_close(got, expected)
    got.backward()
    assert tokens.grad is not None
    assert not tokens.grad[:, :5].any()
    assert tokens.grad[:, 5:].abs().sum(dim=2).min() > 0
    compiled = torch.compile(distillation, fullgraph=True, backend="aot_eager", dynamic=True)
    torch.testing.assert_close(compiled(tokens, teacher).total, expected)
    exported = torch.export.export(distillation, (tokens, teacher)).module()
    torch.testing.assert_close(exported(tokens, teacher).total, expected)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        (torch.zeros(2, 26, 3), r"tokens: tokens: expected 25 \(1 before the grid \+ 4x6\), got 26"),
        (torch.zeros(2, 25), r"tokens: axes: expected 3 \(batch, tokens, channels\), got \(2, 25\)"),
        (torch.zeros(0, 25, 3), "tokens: batch: expected at least 1, got 0"),
        ([], r"tokens: type: expected a tensor \(batch, tokens, channels\), got list"),
    ],
)
def test_a_sequence_of_another_shape_is_refused(tokens: Tensor, says: str) -> None:
    with pytest.raises(ShapeError, match=f"^tokens_to_map: {says}$"):
        tokens_to_map(tokens, (4, 6), start=1)


def test_a_forgotten_class_token_is_no_shifted_map() -> None:
    with pytest.raises(ShapeError, match=r"expected 16 \(0 before the grid \+ 4x4\), got 17"):
        tokens_to_map(torch.zeros(1, 17, 3), (4, 4))


def test_what_does_not_fit_the_layout_is_named() -> None:
    stated = r"TokenLayout: tokens: tokens: expected 29 \(cls 1 \+ template 2x3 \+ search 4x5 \+ registers 2\), got 28"
    for refuse in (LAYOUT.split, lambda tokens: LAYOUT.map(tokens, "search")):
        with pytest.raises(ShapeError, match=stated):
            refuse(torch.zeros(2, 28, 3))
    tokens = torch.zeros(2, 29, 3)
    for name in ("cls", "serach"):
        with pytest.raises(ValueError, match=f"map: name: expected template or search, got '{name}'"):
            LAYOUT.map(tokens, name)
    with pytest.raises(ShapeError, match=r"map_to_tokens: input: axes: expected 4 \(B, C, H, W\)"):
        map_to_tokens(tokens)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"search": torch.zeros(2, 3, 5, 4)}, "TokenLayout: search: height: expected 4, got 5"),
        ({"search": torch.zeros(2, 3, 4, 4)}, "TokenLayout: search: width: expected 5, got 4"),
        ({"search": torch.zeros(2, 19, 3)}, "TokenLayout: search: tokens: expected 4x5, got 19"),
        ({"search": torch.zeros(3, 20, 3)}, "TokenLayout: search: batch: expected 2 as cls, got 3"),
        ({"search": torch.zeros(2, 8, 4, 5)}, "TokenLayout: search: channels: expected 3 as cls, got 8"),
        (
            {"cls": torch.zeros(2, 3, 1, 1)},
            r"TokenLayout: cls: axes: expected 3 \(batch, tokens, channels\), got \(2, 3, 1, 1\)",
        ),
        ({"extra": torch.zeros(2, 1, 3)}, "join: expected cls, template, search, registers, got .*extra"),
    ],
)
def test_parts_that_do_not_join_are_named(change: dict[str, Tensor], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        LAYOUT.join({**LAYOUT.split(torch.zeros(2, 29, 3)), **change})


@pytest.mark.parametrize("part", [0, (0, 4), (-2, -3), (1, 2, 3), ()])
def test_parts_without_tokens_are_refused(part: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"TokenLayout: search.* (number of tokens or \(H, W\)|whole number from 1)"):
        TokenLayout(search=part)
    with pytest.raises(ValueError, match="expected at least one part"):
        TokenLayout()
