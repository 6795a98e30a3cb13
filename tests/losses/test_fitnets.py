import numpy as np
import pytest
import torch
from helpers import pyramid
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmdistill import NotFiniteError, ShapeError
from mmdistill.losses.fitnets import FitNetsLoss

STUDENT, TEACHER = (2, 3), (3, 4)


def convolved(x: np.ndarray, regressor: nn.Conv2d) -> np.ndarray:
    """A convolution that keeps the size, written as a sum over the kernel's offsets."""
    weight, bias = (values.detach().numpy() for values in (regressor.weight, regressor.bias))
    kernel, (height, width) = weight.shape[-1], x.shape[-2:]
    border = kernel // 2
    padded = np.pad(x, ((0, 0), (0, 0), (border, border), (border, border)))
    result = np.zeros((len(x), len(weight), height, width)) + bias[:, None, None]
    for row in range(kernel):
        for column in range(kernel):
            window = padded[:, :, row : row + height, column : column + width]
            result += np.einsum("oc,bchw->bohw", weight[:, :, row, column], window)
    return result


@settings(max_examples=25)
@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 5]), st.integers(0, 100))
def test_value_is_the_sum_of_the_levels_mean_squared_errors(
    batch: int, height: int, width: int, kernel: int, seed: int
) -> None:
    torch.manual_seed(seed)
    loss = FitNetsLoss((2, 3), (4, 2), kernel=kernel).double()
    sizes = ((height, width), ((height + 1) // 2, (width + 1) // 2))
    student, teacher = (
        [torch.randn(batch, c, *size, dtype=torch.float64) for c, size in zip(channels, sizes, strict=True)]
        for channels in ((2, 3), (4, 2))
    )
    expected = 0.0
    for regressor, ours, theirs in zip(loss.regressors, student, teacher, strict=True):
        assert isinstance(regressor, nn.Conv2d)
        expected += np.mean((convolved(ours.numpy(), regressor) - theirs.numpy()) ** 2)
    terms = loss(student, teacher)
    assert list(terms) == ["hint"]
    assert terms.total.item() == pytest.approx(expected, rel=1e-12)


def test_a_level_of_equal_channels_is_compared_as_it_is() -> None:
    loss = FitNetsLoss((3,), (3,))
    assert not list(loss.parameters())
    assert loss([torch.full((2, 3, 4, 5), 3.0)], [torch.ones(2, 3, 4, 5)]).total == 4
    assert len(list(FitNetsLoss((3,), (3,), kernel=3).parameters())) == 2


@pytest.mark.parametrize("kernel", [1, 3])
def test_gradients_are_right_and_the_teacher_gets_none(kernel: int) -> None:
    loss = FitNetsLoss(STUDENT, TEACHER, kernel=kernel).double()
    student = pyramid(STUDENT, (4, 6), dtype=torch.float64, requires_grad=True)
    teacher = pyramid(TEACHER, (4, 6), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: loss(x, teacher).total, student)
    loss(student, teacher).total.backward()
    assert all(x.grad is None for x in teacher)
    assert all(x.grad is not None and x.grad.any() for x in [*student, *loss.parameters()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_scale_1000_is_finite(dtype: torch.dtype) -> None:
    student, teacher = ([1e3 * x for x in pyramid(channels, requires_grad=True)] for channels in (STUDENT, TEACHER))
    student, teacher = ([x.detach().to(dtype).requires_grad_() for x in levels] for levels in (student, teacher))
    loss = FitNetsLoss(STUDENT, TEACHER).to(dtype)
    total = loss(student, teacher).total
    total.backward()
    assert total.dtype == torch.float32
    assert 1e5 < total < 1e7
    assert all(x.grad is not None and x.grad.isfinite().all() and x.grad.any() for x in student)


@pytest.mark.parametrize("size", [(1, 1), (8, 12), (3, 17)])
def test_no_gradient_is_nan_on_zero_features(size: tuple[int, int]) -> None:
    student = torch.zeros(1, 3, *size, requires_grad=True)
    FitNetsLoss((3,), (3,))([student], [torch.zeros(1, 3, *size)]).total.backward()
    assert student.grad is not None
    assert not student.grad.any()


def test_wrong_inputs_are_named() -> None:
    loss, student, teacher = FitNetsLoss(STUDENT, TEACHER), pyramid(STUDENT), pyramid(TEACHER)
    with pytest.raises(ShapeError, match="FitNetsLoss: teacher level 2: width: expected 12 as student, got 6"):
        loss(student, [teacher[0], teacher[1][..., ::2]])
    with pytest.raises(ShapeError, match="FitNetsLoss: teacher level 1: batch: expected 2 as student, got 1"):
        loss(student, [x[:1] for x in teacher])
    with pytest.raises(ShapeError, match="FitNetsLoss: student level 2: channels: expected 3, got 2"):
        loss([student[0]] * 2, teacher)
    with pytest.raises(ShapeError, match="FitNetsLoss: student: levels: expected 2, got 1"):
        loss(student[:1], teacher)
    with pytest.raises(ShapeError, match="FitNetsLoss: student: type: expected a sequence of maps"):
        loss(student[0], teacher)
    with pytest.raises(ShapeError, match="FitNetsLoss: teacher level 1: batch: expected at least 1, got 0"):
        loss(student, [x[:0] for x in teacher])
    teacher[1][0, 0, 0, 0] = float("inf")
    with pytest.raises(NotFiniteError, match="FitNetsLoss: teacher level 2: values: expected finite, got 1 NaN"):
        loss(student, teacher)
    loss.check_values = False
    assert not loss(student, teacher).total.isfinite()


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ShapeError, match="FitNetsLoss: teacher_channels: levels: expected 2, got 1"):
        FitNetsLoss((2, 3), (4,))
    with pytest.raises(ShapeError, match="student_channels: levels: expected the channels of at least 1, got 256"):
        FitNetsLoss(256, 512)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match=r"student_channels: levels: expected the channels of at least 1, got \(\)"):
        FitNetsLoss((), ())
    for kernel in (2, -1):
        with pytest.raises(ValueError, match=r"FitNetsLoss: kernel: expected (an odd number|a whole number from 1)"):
            FitNetsLoss((2,), (3,), kernel=kernel)
