from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import DeadTermWarning, NotFiniteError, ShapeError, TCLDistiller


def by_hand(filters: np.ndarray, features: np.ndarray, label: np.ndarray, mu: float, threshold: float | None) -> float:
    """TIR-CMD eq. 2, every score from the window under the filter."""
    iterates, sequences, _, h, w = filters.shape
    padding = [(0, 0)] * 3 + [(h // 2, h // 2), (w // 2, w // 2)]
    padded = np.pad(features, padding)
    errors = []
    for i in range(iterates):
        for n, s, y, x in np.ndindex(label.shape):
            score = np.sum(padded[n, s, :, y : y + h, x : x + w] * filters[i, s])
            target = label[n, s, y, x]
            background = threshold is not None and target < threshold
            errors.append(max(score, 0.0) if background else score - target)
    norms = [np.sum(filters[i, s] ** 2) for i in range(iterates) for s in range(sequences)]
    return float(np.mean(np.square(errors)) + mu * np.mean(norms))


@settings(max_examples=25)
@given(
    st.tuples(*[st.integers(1, 3)] * 4),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from(["squared", "hinge"]),
)
def test_value_is_equation_two(
    counts: tuple[int, ...], filter_size: tuple[int, int], size: tuple[int, int], residual: str
) -> None:
    iterates, frames, sequences, channels = counts
    torch.manual_seed(sum(counts))
    filters = torch.randn(iterates, sequences, channels, *filter_size, dtype=torch.float64)
    features = torch.randn(frames, sequences, channels, *size, dtype=torch.float64)
    grid = [side + 1 - cells % 2 for side, cells in zip(size, filter_size, strict=True)]
    label = torch.rand(frames, sequences, *grid, dtype=torch.float64) ** 4
    terms = TCLDistiller(mu=0.3, residual=residual)(filters, features, label)  # type: ignore[arg-type]
    assert list(terms) == ["classification", "regularisation"]
    expected = by_hand(filters.numpy(), features.numpy(), label.numpy(), 0.3, 0.05 if residual == "hinge" else None)
    assert terms.total.item() == pytest.approx(expected, rel=1e-10)
    assert terms["regularisation"].item() == pytest.approx(0.3 * filters.square().sum().item() / iterates / sequences)


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    filters = torch.randn(2, 3, 4, 4, 4, dtype=torch.float64, requires_grad=True)
    features = torch.randn(1, 3, 4, 5, 6, dtype=torch.float64, requires_grad=True)
    return filters, features, torch.rand(1, 3, 6, 7, dtype=torch.float64)


Inputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@pytest.mark.parametrize("residual", ["squared", "hinge"])
def test_gradients_are_right_on_both_sides(inputs: Inputs, residual: str) -> None:
    filters, features, label = inputs
    loss = TCLDistiller(mu=0.1, residual=residual)  # type: ignore[arg-type]
    # Along random directions: one for each of 744 numbers takes 20 seconds.
    assert torch.autograd.gradcheck(lambda f, x: loss(f, x, label).total, (filters, features), fast_mode=True)


def test_only_a_detached_side_gets_no_gradient(inputs: Inputs) -> None:
    filters, features, label = inputs
    for detach, learns in ((None, (True, True)), ("reference", (False, True)), ("test", (True, False))):
        terms = TCLDistiller(detach=detach)(filters, features, label)  # type: ignore[arg-type]
        gradients = torch.autograd.grad(terms.total, (filters, features), allow_unused=True)
        assert tuple(gradient is not None for gradient in gradients) == learns


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_sequence_of_iterates_is_the_same_as_their_stack(inputs: Inputs, kind: type) -> None:
    _, features, label = inputs
    iterates = [torch.randn(3, 4, 4, 4, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    terms = TCLDistiller(mu=0.3)(kind(iterates), features, label)
    stacked = torch.stack(iterates).detach().requires_grad_()
    expected = TCLDistiller(mu=0.3)(stacked, features, label)
    assert list(terms) == list(expected)
    torch.testing.assert_close(terms.total, expected.total, rtol=0, atol=0)
    by_hand_total = by_hand(stacked.detach().numpy(), features.detach().numpy(), label.numpy(), 0.3, None)
    assert terms.total.item() == pytest.approx(by_hand_total, rel=1e-10)
    gradients = torch.autograd.grad(terms.total, iterates)
    torch.testing.assert_close(torch.stack(gradients), torch.autograd.grad(expected.total, stacked)[0])


def test_wrong_iterates_are_named(inputs: Inputs) -> None:
    filters, features, label = (values.detach() for values in inputs)
    first, second = filters
    wrong: dict[str, Any] = {
        "filters: iterates: expected at least 1, got 0": [],
        "filters iterate 2: sequences: expected 3 as iterate 1, got 1": [first, second[:1]],
        "filters iterate 3: height: expected 4 as iterate 1, got 3": (first, second, first[:, :, 1:]),
        r"filters iterate 1: axes: expected 4 \(sequences, channels, height, width\), got \(2, 3": [filters, filters],
        "filters iterate 2: type: expected a tensor .*, got NoneType": [first, None],
        "filters iterate 2: dtype: expected floating point.*, got torch.int64": [first, second.long()],
        "filters iterate 2: device: expected cpu as iterate 1, got meta": [first, second.to("meta")],
        "filters: type: expected a tensor .*, got dict": {0: first, 1: second},
        "filters: values: expected finite, got 192 NaN": [first, second * torch.nan],
    }
    for message, given_filters in wrong.items():
        with pytest.raises(ShapeError, match=f"TCLDistiller: {message}"):
            TCLDistiller()(given_filters, features, label)
    for frames in ([features[0]], (features,)):
        with pytest.raises(ShapeError, match="TCLDistiller: features: type: expected a tensor"):
            TCLDistiller()(filters, frames, label)


@pytest.mark.parametrize("learns", ["filters", "features"])
def test_the_side_made_in_inference_mode_teaches_without_a_word_of_detach(inputs: Inputs, learns: str) -> None:
    """A teacher's branch run as DiMP's trackers run, and the other in training."""
    filters, features, label = inputs
    expected = torch.autograd.grad(TCLDistiller()(filters, features, label).total, (filters, features))
    with torch.inference_mode():
        constant = {"filters": filters.detach().clone(), "features": features.detach().clone()}
    if learns == "filters":
        (gradient,) = torch.autograd.grad(TCLDistiller()(filters, constant["features"], label).total, filters)
        torch.testing.assert_close(gradient, expected[0])
    else:
        (gradient,) = torch.autograd.grad(TCLDistiller()(list(constant["filters"]), features, label).total, features)
        torch.testing.assert_close(gradient, expected[1])


def test_what_has_nothing_to_teach_is_left_out(inputs: Inputs) -> None:
    assert list(TCLDistiller(detach="reference")(*inputs)) == ["classification"]
    assert list(TCLDistiller(mu=0.0)(*inputs)) == ["classification"]
    both = TCLDistiller()(*inputs)
    torch.testing.assert_close(both.total, both["classification"] + both["regularisation"])


@pytest.mark.parametrize("autocast", [torch.float16, torch.bfloat16])
def test_it_is_computed_in_float32_under_autocast(autocast: torch.dtype) -> None:
    filters, features, label = torch.randn(2, 1, 64, 4, 4), torch.randn(3, 1, 64, 8, 9), torch.rand(3, 1, 9, 10)
    expected = TCLDistiller()(filters, features, label).total
    with torch.autocast("cpu", autocast):
        assert torch.equal(TCLDistiller()(filters, features, label).total, expected)


def test_large_half_filters_have_a_finite_norm() -> None:
    filters = torch.full((1, 1, 8, 4, 4), 300.0, dtype=torch.float16, requires_grad=True)
    terms = TCLDistiller(mu=1.0)(filters, torch.zeros(1, 1, 8, 5, 5, dtype=torch.float16), torch.zeros(1, 1, 6, 6))
    assert terms["regularisation"] == 300.0**2 * 128


def test_the_right_filter_has_no_error_and_descent_finds_it() -> None:
    """One modality's filter is learned on the other's features, as in setting C1."""
    features = torch.randn(1, 2, 6, 8, 8)
    label = torch.zeros(1, 2, 9, 9)
    label[:, :, 4, 4] = 1
    filters = torch.zeros(1, 2, 6, 4, 4, requires_grad=True)
    loss, losses = TCLDistiller(mu=0.0), []
    optimizer = torch.optim.Adam([filters], lr=0.03)
    for _ in range(150):
        optimizer.zero_grad()
        terms = loss(filters, features, label)
        terms.total.backward()
        optimizer.step()
        losses.append(terms.total.item())
    assert losses[-1] < 0.2 * losses[0]


def test_wrong_inputs_are_named(inputs: Inputs) -> None:
    filters, features, label = (values.detach().requires_grad_() for values in inputs)
    loss = TCLDistiller()
    wrong = {
        r"filters: axes: expected 5 \(iterates, sequences, channels, height, width\), got \(3, 4, 4, 4\)": (
            filters[0],
            features,
            label,
        ),
        "TCLDistiller: features: sequences: expected 3 as filters, got 2": (filters, features[:, :2], label),
        "TCLDistiller: features: channels: expected 4 as filters, got 1": (filters, features[:, :, :1], label),
        "TCLDistiller: label: frames: expected 1 as features, got 2": (filters, features, label.repeat(2, 1, 1, 1)),
        "TCLDistiller: label: height: expected 6 as the scores, got 5": (filters, features, label[:, :, 1:]),
        "TCLDistiller: label: width: expected 7 as the scores, got 6": (filters, features, label[..., 1:]),
        "TCLDistiller: filters: iterates: expected at least 1, got 0": (filters[:0], features, label),
        "TCLDistiller: label: type": (filters, features, None),
    }
    for message, given_inputs in wrong.items():
        with pytest.raises(ShapeError, match=message):
            loss(*given_inputs)
    for side, given_inputs in {
        "filters": (filters * torch.nan, features, label),
        "features": (filters, features * torch.nan, label),
        "label": (filters, features, label * torch.nan),
    }.items():
        with pytest.raises(NotFiniteError, match=f"TCLDistiller: {side}: values"):
            loss(*given_inputs)
        assert TCLDistiller(check_values=False)(*given_inputs).total.isnan()


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="residual: expected one of squared, hinge, got 'l1'"):
        TCLDistiller(residual="l1")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="detach: expected one of None, reference, test, got 'teacher'"):
        TCLDistiller(detach="teacher")  # type: ignore[arg-type]
    for mu in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="TCLDistiller: mu: expected a number from 0 to"):
            TCLDistiller(mu=mu)


def test_two_frozen_sides_are_warned_of(inputs: Inputs) -> None:
    filters, features, label = inputs
    with pytest.warns(DeadTermWarning, match="TCLDistiller: no student input requires gradient"):
        TCLDistiller(detach="reference")(filters, features.detach(), label)
