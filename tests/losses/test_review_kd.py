import numpy as np
import pytest
import torch
from helpers import pyramid
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import NotFiniteError, ShapeError
from mmdistill.losses.review_kd import ReviewKDLoss, hierarchical_context_error

STUDENT, TEACHER = (2, 3, 4), (3, 4, 5)


def pooled(x: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Adaptive average pooling: cell i of n covers the positions from floor(i L / n) to ceil((i + 1) L / n)."""
    height, width = x.shape[-2:]
    result = np.empty((*x.shape[:2], rows, columns))
    for row in range(rows):
        for column in range(columns):
            vertical = slice(row * height // rows, -(-(row + 1) * height // rows))
            horizontal = slice(column * width // columns, -(-(column + 1) * width // columns))
            result[..., row, column] = x[..., vertical, horizontal].mean(axis=(2, 3))
    return result


def by_hand(student: np.ndarray, teacher: np.ndarray) -> float:
    height, width = student.shape[-2:]
    total, weights, weight = np.mean((student - teacher) ** 2), 1.0, 1.0
    for size in (4, 2, 1):
        rows, columns = min(size, height), min(size, width)
        if (rows, columns) == (height, width):
            continue
        weight /= 2
        total += weight * np.mean((pooled(student, rows, columns) - pooled(teacher, rows, columns)) ** 2)
        weights += weight
    return float(total / weights)


@settings(max_examples=50)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 18), st.integers(1, 18), st.integers(0, 100))
def test_the_context_error_of_any_size(batch: int, channels: int, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    student, teacher = torch.randn(2, batch, channels, height, width, dtype=torch.float64)
    expected = by_hand(student.numpy(), teacher.numpy())
    assert hierarchical_context_error(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (8, 12), (3, 17)])
def test_a_constant_difference_weighs_the_same_at_every_size(size: tuple[int, int]) -> None:
    """The weights add up to one whichever poolings are left out."""
    error = hierarchical_context_error(torch.full((1, 2, *size), 3.0), torch.zeros(1, 2, *size))
    assert error.item() == pytest.approx(9)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        # A checkerboard of +1 and -1 cancels in every pooling, so the weight of the full map is left.
        ((8, 8), 1 / 1.875),
        ((4, 4), 1 / 1.75),
        ((2, 2), 1 / 1.5),
        ((1, 1), 1.0),
        # Of 1x2 only 1x1 is a pooling; of 2x8 they are 2x4, 2x2 and 1x1.
        ((1, 2), 1 / 1.5),
        ((2, 8), 1 / 1.875),
    ],
)
def test_which_poolings_a_size_has(size: tuple[int, int], expected: float) -> None:
    rows, columns = (torch.arange(length) for length in size)
    board = (1.0 - 2 * ((rows[:, None] + columns) % 2))[None, None]
    assert hierarchical_context_error(board, torch.zeros_like(board)).item() == pytest.approx(expected)


def test_the_loss_is_the_sum_over_the_chains_levels() -> None:
    loss = ReviewKDLoss(STUDENT, TEACHER, mid_channels=6).double().eval()
    student, teacher = (pyramid(channels, (16, 24), dtype=torch.float64) for channels in (STUDENT, TEACHER))
    aligned = [x.detach().numpy() for x in loss.chain(student)]
    expected = sum(by_hand(ours, theirs.numpy()) for ours, theirs in zip(aligned, teacher, strict=True))
    terms = loss(student, teacher)
    assert list(terms) == ["review"]
    assert terms.total.item() == pytest.approx(expected, rel=1e-12)


def test_mid_channels_follow_the_students_deepest_level() -> None:
    assert ReviewKDLoss((64, 64, 128, 256), (64, 256, 512, 1024)).chain.levels[0].mid_channels == 256


@pytest.mark.parametrize("size", [(3, 5), (4, 4), (1, 1)])
def test_the_context_errors_gradients_are_right(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 2, 2, *size, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: hierarchical_context_error(x, teacher), student.requires_grad_())


def test_gradients_are_right_and_the_teacher_gets_none() -> None:
    loss = ReviewKDLoss((2, 2), (2, 3), mid_channels=2).double().eval()
    student = pyramid((2, 2), (6, 10), 1, dtype=torch.float64, requires_grad=True)
    teacher = pyramid((2, 3), (6, 10), 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: loss(x, teacher).total, student)
    loss(student, teacher).total.backward()
    assert all(x.grad is None for x in teacher)
    assert all(x.grad is not None and x.grad.any() for x in [*student, *loss.parameters()])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_at_scale_1000_is_finite(dtype: torch.dtype) -> None:
    student, teacher = ((1e3 * torch.randn(2, 2, 4, 16, 24)).to(dtype)).unbind()
    student.requires_grad_()
    error = hierarchical_context_error(student, teacher)
    error.backward()
    assert error.dtype == torch.float32
    assert error.item() == pytest.approx(by_hand(student.detach().double().numpy(), teacher.double().numpy()), rel=1e-4)
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("size", [(1, 1), (8, 12), (3, 17)])
def test_no_gradient_is_nan_on_zero_features(size: tuple[int, int]) -> None:
    loss = ReviewKDLoss((3, 3), (3, 3))
    student = [torch.zeros(2, 3, *size, requires_grad=True), torch.zeros(2, 3, 1, 1, requires_grad=True)]
    loss(student, [torch.zeros_like(x) for x in student]).total.backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in [*student, *loss.parameters()])


def test_wrong_inputs_are_named() -> None:
    loss, student, teacher = ReviewKDLoss(STUDENT, TEACHER), pyramid(STUDENT), pyramid(TEACHER)
    with pytest.raises(ShapeError, match="ReviewKDLoss: teacher level 3: height: expected 4 as student, got 2"):
        loss(student, [*teacher[:2], teacher[2][:, :, ::2]])
    with pytest.raises(ShapeError, match="ReviewKDLoss: student level 1: channels: expected 2, got 3"):
        loss([student[1]] * 3, teacher)
    with pytest.raises(ShapeError, match="ReviewKDLoss: teacher: levels: expected 3, got 2"):
        loss(student, teacher[:2])
    with pytest.raises(ShapeError, match="ReviewKDLoss: teacher_channels: levels: expected 3, got 2"):
        ReviewKDLoss(STUDENT, TEACHER[:2])
    with pytest.raises(ShapeError, match="ReviewKDLoss: student_channels: levels: expected the channels of at least 1"):
        ReviewKDLoss((), ())
    student[0][0, 0, 0, 0] = float("nan")
    with pytest.raises(NotFiniteError, match="ReviewKDLoss: student level 1: values: expected finite, got 1 NaN"):
        loss(student, teacher)
    loss.check_values = False
    assert not loss(student, teacher).total.isfinite()
