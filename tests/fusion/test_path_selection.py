import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdistill import DeadTermWarning, MPSDFusion, Pair, ShapeError, path_entropy, path_selection
from mmdistill.fusion.mpsd import CHECK_INTERVAL, MIN_COLLAPSED_CHECKS


def entropy_by_hand(weights: np.ndarray) -> np.ndarray:
    """Shannon's, in units of log P, over the second axis."""
    logs = np.log(np.where(weights > 0, weights, 1))
    entropy: np.ndarray = -(weights * logs).sum(axis=1) / np.log(weights.shape[1])
    return entropy


@pytest.mark.parametrize("shape", [(5, 3), (4, 2), (5, 3, 6)])
def test_entropy_is_shannons_in_units_of_the_largest(shape: tuple[int, ...]) -> None:
    weights = torch.randn(shape, dtype=torch.float64).mul(3).softmax(dim=1)
    weights[0] = 0
    weights[0, 1] = 1
    expected = entropy_by_hand(weights.numpy())
    expected = expected if expected.ndim == 1 else expected.mean(axis=1)
    np.testing.assert_allclose(path_entropy(weights).numpy(), expected, rtol=1e-12, atol=1e-12)
    assert path_entropy(weights)[0] == 0
    torch.testing.assert_close(path_entropy(torch.full(shape, 1 / shape[1])), torch.ones(shape[0]))


def test_entropy_carries_a_gradient_that_spreads_the_weights() -> None:
    scores = torch.tensor([[2.0, 0.0, -1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: path_entropy(given.softmax(dim=1)), scores)


def test_a_selection_that_differs_by_sample_is_not_one_that_is_undecided() -> None:
    decided = path_selection(torch.eye(3))
    assert decided.entropy == 0
    assert decided.entropy_of_mean == pytest.approx(1)
    assert decided.preferred == pytest.approx((1 / 3,) * 3)
    assert decided.collapsed is None
    undecided = path_selection(torch.full((3, 3), 1 / 3))
    assert undecided.entropy == pytest.approx(1)
    assert undecided.collapsed is None


def test_a_collapsed_selection_names_its_path() -> None:
    weights = torch.tensor([[0.0, 0.005, 0.995], [0.01, 0.0, 0.99]])
    found = path_selection(weights)
    assert found.collapsed == 2
    assert found.mean_weights == pytest.approx((0.005, 0.0025, 0.9925))
    weights[0] = torch.tensor([0.0, 0.02, 0.98])
    assert path_selection(weights).collapsed is None
    channels = torch.tensor([0.0, 1.0])[None, :, None].repeat(4, 1, 3)
    assert path_selection(channels).collapsed == 1
    channels[0, :, 0] = 0.5  # a single channel of one sample
    assert path_selection(channels).collapsed is None


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.ones(4, 1), "weights: paths: expected at least 2, got 1"),
        (torch.ones(0, 3), "weights: batch: expected at least 1, got 0"),
        (torch.ones(3), r"weights: axes: expected 2 \(B, P\) or 3 \(B, P, C\), got \(3,\)"),
        (torch.ones(2, 3, 0), "weights: channels: expected at least 1, got 0"),
        (torch.ones(2, 3, dtype=torch.int64), "weights: dtype: expected floating point"),
        ([[0.5, 0.5]], r"weights: type: expected a tensor \(B, P\), got list"),
    ],
)
def test_what_is_no_selection_is_refused(weights: Tensor, message: str) -> None:
    with pytest.raises(ShapeError, match=f"path_entropy: {message}"):
        path_entropy(weights)
    with pytest.raises(ShapeError, match=f"path_selection: {message}"):
        path_selection(weights)


def with_scores(weighting: str, *scores: float) -> MPSDFusion:
    """A block whose selection is these scores, whatever it sees."""
    block = MPSDFusion(4, weighting=weighting)  # type: ignore[arg-type]
    last = block.path_weights[2]
    assert isinstance(last, nn.Linear)
    nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor(scores, dtype=torch.float32).repeat_interleave(len(last.bias) // 3)
    return block


def calls(block: nn.Module, count: int = CHECK_INTERVAL * MIN_COLLAPSED_CHECKS) -> list[warnings.WarningMessage]:
    """What a block warns of in so many calls."""
    pair = Pair(*torch.randn(2, 2, 4, 2, 2).unbind())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(count):
            block(pair)
    return [warning for warning in caught if issubclass(warning.category, DeadTermWarning)]


@pytest.mark.parametrize("weighting", ["path", "channel"])
def test_a_block_warns_once_of_its_collapsed_selection(weighting: str) -> None:
    block = with_scores(weighting, 0, 9, 0)
    assert not calls(block, CHECK_INTERVAL * MIN_COLLAPSED_CHECKS - 1)
    [warning] = calls(block, 1)
    assert "path 1 of 3" in str(warning.message)
    assert warning.filename == __file__
    assert not calls(block)


def test_a_block_that_selects_is_quiet() -> None:
    assert not calls(with_scores("path", 0, 3, 0))
    block = with_scores("path", 9, 0, 0)
    assert not calls(block, CHECK_INTERVAL * (MIN_COLLAPSED_CHECKS - 1))
    block.path_weights[2].bias.data = torch.tensor([0.0, 0.0, 9.0])  # another path from here on
    assert not calls(block, CHECK_INTERVAL * (MIN_COLLAPSED_CHECKS - 1))
    assert len(calls(block, CHECK_INTERVAL)) == 1


def test_evaluation_is_not_checked_and_copies_are_made_as_before() -> None:
    block = with_scores("path", 0, 9, 0)
    assert not calls(block.eval())
    block.train()
    with torch.no_grad():
        assert not calls(block)
    assert not [name for name in block.state_dict() if "selection" in name]
    for twin in (copy.deepcopy(block), pickle.loads(pickle.dumps(block))):
        assert len(calls(twin)) == 1


def test_the_values_are_read_only_when_it_is_the_blocks_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Tensor] = []
    plain = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: (read.append(tensor), plain(tensor))[1])
    calls(with_scores("path", 0, 0, 0), 2 * CHECK_INTERVAL + 1)
    assert len(read) == 2
