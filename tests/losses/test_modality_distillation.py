import numpy as np
import pytest
import torch
from helpers import pyramid
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import NotFiniteError, ShapeError
from mmdistill.losses.modality_distillation import ModalityDistillationLoss, focal_weight, focused_squared_error

STUDENT, TEACHER = (2, 3), (3, 4)


def by_hand(student: np.ndarray, teacher: np.ndarray, exponent: float) -> float:
    """Sample by sample, position by position."""
    errors = []
    for ours, theirs in zip(student, teacher, strict=True):
        disagreement = ((ours - theirs) ** 2).mean(axis=0).ravel()
        powers = [d**exponent for d in disagreement]
        weights = [power * len(powers) / sum(powers) for power in powers]
        errors.append(np.mean([w * d for w, d in zip(weights, disagreement, strict=True)]))
    return float(np.mean(errors))


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.5, 1.0, 2.0]),
    st.integers(0, 100),
)
def test_value_at_one_level(batch: int, channels: int, height: int, width: int, exponent: float, seed: int) -> None:
    torch.manual_seed(seed)
    student, teacher = torch.randn(2, batch, channels, height, width, dtype=torch.float64)
    expected = by_hand(student.numpy(), teacher.numpy(), exponent)
    assert focused_squared_error(student, teacher, exponent).item() == pytest.approx(expected, rel=1e-9)


def test_the_loss_is_the_sum_over_levels_of_the_adapted_maps() -> None:
    loss = ModalityDistillationLoss(STUDENT, TEACHER, exponent=2.0).double()
    student, teacher = (pyramid(channels, dtype=torch.float64) for channels in (STUDENT, TEACHER))
    expected = 0.0
    for adapt, ours, theirs in zip(loss.adaptors, student, teacher, strict=True):
        weight, bias = (values.detach().numpy() for values in (adapt.weight, adapt.bias))
        adapted = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], ours.numpy()) + bias[:, None, None]
        expected += by_hand(adapted, theirs.numpy(), 2.0)
    terms = loss(student, teacher)
    assert list(terms) == ["distillation"]
    assert terms.total.item() == pytest.approx(expected, rel=1e-9)


@settings(max_examples=40)
@given(
    st.integers(1, 3),
    st.integers(1, 9),
    st.integers(1, 9),
    st.floats(0, 8),
    st.sampled_from([0.0, 1e-12, 1.0, 1e12]),
    st.integers(0, 100),
)
def test_the_focus_has_mean_one_at_any_scale(
    batch: int, height: int, width: int, exponent: float, scale: float, seed: int
) -> None:
    torch.manual_seed(seed)
    weights = focal_weight(scale * torch.rand(batch, height, width), exponent)
    np.testing.assert_allclose(weights.mean(dim=(1, 2)).numpy(), 1, rtol=1e-5)


def test_the_focus_is_where_the_two_disagree_most_and_sharper_with_the_exponent() -> None:
    disagreement = torch.tensor([[[1.0, 3.0]], [[0.0, 5.0]], [[0.0, 0.0]]])
    np.testing.assert_allclose(focal_weight(disagreement, 0.0), np.ones((3, 1, 2)))
    np.testing.assert_allclose(focal_weight(disagreement, 1.0), [[[0.5, 1.5]], [[0, 2]], [[1, 1]]])
    np.testing.assert_allclose(focal_weight(disagreement, 2.0), [[[0.2, 1.8]], [[0, 2]], [[1, 1]]], rtol=1e-6)


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
def test_the_gradient_is_the_weighted_errors_with_the_weights_held(exponent: float) -> None:
    student, teacher = torch.randn(2, 2, 3, 4, 5, dtype=torch.float64)
    student.requires_grad_()
    focused_squared_error(student, teacher, exponent).backward()
    difference = (student.detach() - teacher).numpy()
    powers = (difference**2).mean(axis=1, keepdims=True) ** exponent
    weights = powers / powers.mean(axis=(2, 3), keepdims=True)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), 2 * weights * difference / difference.size, rtol=1e-9)


def test_gradients_are_right_and_the_teacher_gets_none() -> None:
    student = pyramid(STUDENT, (4, 6), dtype=torch.float64, requires_grad=True)
    teacher = pyramid(TEACHER, (4, 6), dtype=torch.float64, requires_grad=True)
    even = ModalityDistillationLoss(STUDENT, TEACHER, exponent=0.0).double()
    assert torch.autograd.gradcheck(lambda *x: even(x, teacher).total, student)
    loss = ModalityDistillationLoss(STUDENT, TEACHER).double()
    loss(student, teacher).total.backward()
    assert all(x.grad is None for x in teacher)
    assert all(x.grad is not None and x.grad.any() for x in [*student, *loss.parameters()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_half_precision_at_any_scale_is_finite(dtype: torch.dtype, scale: float) -> None:
    student, teacher = (scale * torch.randn(2, 2, 3, 8, 12)).to(dtype)
    student.requires_grad_()
    loss = ModalityDistillationLoss((3,), (3,), exponent=4.0)
    total = loss([student], [teacher]).total
    total.backward()
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(
        by_hand(student.detach().double().numpy(), teacher.double().numpy(), 4.0), rel=1e-3
    )
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any()


@pytest.mark.parametrize("size", [(1, 1), (8, 12), (3, 17)])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 2.0])
def test_no_gradient_is_nan_on_zero_features(size: tuple[int, int], exponent: float) -> None:
    student = torch.zeros(1, 3, *size, requires_grad=True)
    loss = ModalityDistillationLoss((3,), (3,), exponent=exponent)
    loss([student], [torch.zeros(1, 3, *size)]).total.backward()
    assert student.grad is not None
    assert not student.grad.any()


def test_wrong_inputs_are_named() -> None:
    loss, student, teacher = ModalityDistillationLoss(STUDENT, TEACHER), pyramid(STUDENT), pyramid(TEACHER)
    with pytest.raises(ShapeError, match="ModalityDistillationLoss: teacher level 2: width: expected 12 as student"):
        loss(student, [teacher[0], teacher[1][..., ::2]])
    with pytest.raises(ShapeError, match="ModalityDistillationLoss: teacher level 1: channels: expected 3, got 1"):
        loss(student, [x[:, :1] for x in teacher])
    with pytest.raises(ShapeError, match="ModalityDistillationLoss: student: levels: expected 2, got 1"):
        loss(student[:1], teacher)
    with pytest.raises(ShapeError, match="ModalityDistillationLoss: teacher_channels: levels: expected 2, got 1"):
        ModalityDistillationLoss((2, 3), (4,))
    for exponent in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="ModalityDistillationLoss: exponent: expected a number from 0 to"):
            ModalityDistillationLoss((2,), (4,), exponent=exponent)
    student[1][0, 0, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="ModalityDistillationLoss: student level 2: values"):
        loss(student, teacher)
    loss.check_values = False
    assert not loss(student, teacher).total.isfinite()
