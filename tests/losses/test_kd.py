import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import DeadTermWarning, NotFiniteError, ShapeError
from mmdistill.losses.kd import KDLoss, softened_divergence


def by_hand(student: np.ndarray, teacher: np.ndarray, temperature: float) -> float:
    """Hinton et al. in NumPy, sample by sample, as the definition of the divergence has it."""
    divergences = []
    for s, t in zip(student.reshape(-1, student.shape[-1]), teacher.reshape(-1, teacher.shape[-1]), strict=True):
        p, q = (np.exp((x - x.max()) / temperature) for x in (t, s))
        p, q = p / p.sum(), q / q.sum()
        divergences.append(np.sum(p * np.log(p / q)))
    return temperature**2 * float(np.mean(divergences))


@settings(max_examples=40)
@given(
    st.lists(st.integers(1, 4), max_size=2),
    st.integers(2, 12),
    st.floats(0.2, 20),
    st.sampled_from([0.01, 1.0, 10.0]),
    st.integers(0, 100),
)
def test_value_over_logits(leading: list[int], classes: int, temperature: float, scale: float, seed: int) -> None:
    torch.manual_seed(seed)
    student, teacher = scale * torch.randn(2, *leading, classes, dtype=torch.float64)
    terms = KDLoss(temperature=temperature)(student, teacher)
    assert list(terms) == ["distillation"]
    assert terms.total.item() == pytest.approx(by_hand(student.numpy(), teacher.numpy(), temperature), rel=1e-6)


@pytest.mark.parametrize("shape", [(19, 19), (3, 8, 12), (2, 3, 5, 7), (2, 1, 3, 17)])
@pytest.mark.parametrize("temperature", [0.1, 1.0, 4.0])
def test_value_over_a_response_map(shape: tuple[int, ...], temperature: float) -> None:
    student, teacher = torch.rand(2, *shape, dtype=torch.float64)
    positions = (*shape[:-2], shape[-2] * shape[-1])
    expected = by_hand(student.numpy().reshape(positions), teacher.numpy().reshape(positions), temperature)
    terms = KDLoss(over="response", temperature=temperature)(student, teacher)
    assert terms.total.item() == pytest.approx(expected, rel=1e-9)


def test_a_map_is_one_distribution_not_one_per_row() -> None:
    rows = torch.tensor([[0.0, 0.0], [4.0, 4.0]])
    assert KDLoss()(rows * 0, rows).total == 0
    assert KDLoss(over="response")(rows * 0, rows).total > 1


def test_two_classes_by_hand() -> None:
    """The teacher's shares are 3/4 and 1/4, the student's 1/2 each."""
    teacher = torch.tensor([2 * np.log(3), 0.0], dtype=torch.float64)
    expected = 4 * (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5))
    assert KDLoss(temperature=2.0)(teacher * 0, teacher).total.item() == pytest.approx(expected, rel=1e-12)


def test_a_high_temperature_tends_to_half_the_error_of_the_centerd_scores() -> None:
    student, teacher = torch.randn(2, 3, 10, dtype=torch.float64)
    difference = (student - teacher).numpy()
    expected = np.mean((difference - difference.mean(axis=1, keepdims=True)) ** 2) / 2
    assert KDLoss(temperature=1e4)(student, teacher).total.item() == pytest.approx(expected, rel=1e-3)


@settings(max_examples=40)
@given(st.integers(1, 400), st.sampled_from([1e-3, 1e-2, 1.0]), st.integers(0, 100))
def test_close_distributions_keep_their_digits_and_are_never_negative(entries: int, distance: float, seed: int) -> None:
    torch.manual_seed(seed)
    teacher = torch.randn(entries)
    student = teacher + distance * torch.randn(entries)
    value = softened_divergence(student, teacher, 4.0).item()
    wide = softened_divergence(student.double(), teacher.double(), 4.0).item()
    assert value >= 0
    assert value == pytest.approx(wide, rel=1e-2, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("over", ["logits", "response"])
def test_half_precision_at_scale_1000_is_finite(dtype: torch.dtype, over: str) -> None:
    student, teacher = (1e3 * torch.randn(2, 2, 9, 9)).to(dtype)
    student.requires_grad_()
    total = KDLoss(over=over)(student, teacher).total  # type: ignore[arg-type]
    total.backward()
    assert total.dtype == torch.float32
    assert total.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()
    assert student.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_softened_in_float32(dtype: torch.dtype) -> None:
    student, teacher = (10 * torch.randn(2, 3, 9)).to(dtype)
    expected = by_hand(student.double().numpy(), teacher.double().numpy(), 3.0)
    assert KDLoss(temperature=3.0)(student, teacher).total.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("over", ["logits", "response"])
@pytest.mark.parametrize("distance", [0.01, 1.0, 20.0])
def test_gradients_are_right_and_the_teacher_gets_none(over: str, distance: float) -> None:
    loss = KDLoss(over=over)  # type: ignore[arg-type]
    teacher = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    student = (teacher + distance * torch.randn_like(teacher)).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, teacher).total, student)
    loss(student, teacher).total.backward()
    assert teacher.grad is None
    sizes = (6, 4) if over == "logits" else (2, 12)
    q, p = (torch.softmax(x.detach().reshape(sizes) / 4, dim=1) for x in (student, teacher))
    assert student.grad is not None
    torch.testing.assert_close(student.grad.reshape(sizes), 4 * (q - p) / sizes[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(2, 1), (1, 3), (2, 2)])
def test_no_gradient_is_nan_on_equal_maps(shape: tuple[int, int]) -> None:
    student = torch.zeros(3, *shape, requires_grad=True)
    terms = KDLoss(over="response")(student, torch.zeros(3, *shape))
    terms.total.backward()
    assert terms.total == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_a_single_score_is_warned_of_where_the_loss_was_called() -> None:
    student = torch.zeros(2, 1, 1, requires_grad=True)
    with pytest.warns(DeadTermWarning, match=r"KDLoss: expected several scores in \(\.\.\., H, W\), got 1") as warned:
        assert KDLoss(over="response")(student, torch.ones(2, 1, 1)).total == 0
    assert warned[0].filename == __file__
    with pytest.warns(DeadTermWarning, match="no student input requires gradient"):
        KDLoss()(torch.zeros(3), torch.ones(3))


def test_wrong_inputs_are_named() -> None:
    maps = torch.zeros(2, 5, 6)
    with pytest.raises(ShapeError, match="KDLoss: teacher: axis 2: expected 6 as student, got 1"):
        KDLoss()(maps, maps[..., :1])
    with pytest.raises(ShapeError, match="KDLoss: teacher: axes"):
        KDLoss(over="response")(maps, maps[0])
    with pytest.raises(ShapeError, match="KDLoss: student: axis 0: expected at least 1, got 0"):
        KDLoss()(maps[:0], maps[:0])
    with pytest.raises(ShapeError, match=r"KDLoss: student: axes: expected \(\.\.\., H, W\), got \(6,\)"):
        KDLoss(over="response")(maps[0, 0], maps[0, 0])
    with pytest.raises(ShapeError, match=r"KDLoss: student: axes: expected \(\.\.\., K\), got \(\)"):
        KDLoss()(torch.tensor(1.0), torch.tensor(1.0))
    with pytest.raises(NotFiniteError, match="KDLoss: teacher: values: expected finite, got 60 NaN or infinite"):
        KDLoss()(maps, maps * float("nan"))
    assert not KDLoss(check_values=False)(maps, maps * float("nan")).total.isfinite()
    with pytest.raises(ValueError, match="over: expected one of logits, response, got 'maps'"):
        KDLoss(over="maps")  # type: ignore[arg-type]
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="KDLoss: temperature: expected a number from 1e-06 to 1e"):
            KDLoss(temperature=temperature)
