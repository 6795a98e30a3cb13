import numpy as np
import pytest
import torch
from helpers import GOLDEN
from torch import Tensor

from mmdistill import HFRDLoss, NotFiniteError, ShapeError
from mmdistill._numerics import hinge_residual
from mmdistill.losses.hfrd import corrected_response


def test_correction_is_equation_twelve_point_by_point() -> None:
    teacher = torch.tensor([0.3, 0.3, -0.5, 0.2, 1.5])
    gaussian = torch.tensor([0.1, 0.9, 0.4, 0.8, 0.0])
    clamped = corrected_response(teacher, gaussian)
    torch.testing.assert_close(clamped, torch.tensor([0.4, 0.9, 0.4, 0.8, 0.0]))
    unclamped = corrected_response(teacher, gaussian, clamp=False)
    torch.testing.assert_close(unclamped, torch.tensor([0.4, 0.9, -0.1, 0.8, 0.0]))


@pytest.mark.parametrize("residual", ["mse", "hinge"])
@pytest.mark.parametrize("shape", [(19, 19), (3, 8, 12), (2, 3, 5, 7)])
def test_value_is_equation_thirteen(residual: str, shape: tuple[int, ...]) -> None:
    student, teacher = torch.randn(2, *shape, dtype=torch.float64)
    gaussian = torch.rand(shape, dtype=torch.float64) ** 4
    s, t, g = student.numpy(), np.maximum(teacher.numpy(), 0), gaussian.numpy()
    masked = s * np.where(t + g < 1, t + g, g)
    if residual == "mse":
        expected = np.mean((masked - g) ** 2)
    else:
        expected = np.mean(np.where(g < 0.05, np.maximum(masked, 0), masked - g) ** 2)
    terms = HFRDLoss(residual=residual)(student, teacher, gaussian)  # type: ignore[arg-type]
    assert list(terms) == ["response"]
    assert terms.total.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("clamp", [True, False])
@pytest.mark.parametrize("residual", ["mse", "hinge"])
def test_a_weighed_label_gives_the_residual_times_the_corrected_response(residual: str, clamp: bool) -> None:
    student, teacher = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    gaussian = torch.rand(3, 8, 12, dtype=torch.float64) ** 4
    s, t, g = student.numpy(), teacher.numpy(), gaussian.numpy()
    t = np.maximum(t, 0) if clamp else t
    c = np.where(t + g < 1, t + g, g)
    assert (c.min() < 0) is not clamp
    error = s * c - g * c
    if residual == "hinge":
        error = np.where(g < 0.05, np.where(s > 0, s * c, 0), error)
    terms = HFRDLoss(residual=residual, clamp=clamp, weigh_label=True)(student, teacher, gaussian)  # type: ignore[arg-type]
    assert terms.total.item() == pytest.approx(np.mean(error**2), rel=1e-12)
    published = HFRDLoss(residual=residual, clamp=clamp)(student, teacher, gaussian)  # type: ignore[arg-type]
    assert published.total.item() != pytest.approx(terms.total.item(), rel=1e-3)


def test_the_optimum_is_the_label_if_the_label_is_weighed_and_else_the_quotient() -> None:
    student, teacher = torch.randn(2, 8, 12, dtype=torch.float64)
    gaussian = torch.rand(8, 12, dtype=torch.float64) ** 4
    teacher[0], gaussian[0] = 0, 0  # the corrected response is 0
    c = corrected_response(teacher, gaussian)
    counted = c != 0
    assert counted.sum() > 50
    assert not counted[0].any()

    def minimum(loss: HFRDLoss) -> Tensor:
        """The loss is a parabola of each score, of curvature 2 c^2 / N: one Newton step reaches its minimum."""
        scores = student.clone().requires_grad_()
        (slope,) = torch.autograd.grad(loss(scores, teacher, gaussian).total, scores)
        assert torch.equal(slope[~counted], torch.zeros_like(slope[~counted]))
        return (student - slope * slope.numel() / (2 * c.square()))[counted]

    torch.testing.assert_close(minimum(HFRDLoss(weigh_label=True)), gaussian[counted], rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(minimum(HFRDLoss()), (gaussian / c)[counted], rtol=1e-9, atol=1e-12)
    assert ((gaussian / c - gaussian)[counted] > 0.1).any()
    assert HFRDLoss(weigh_label=True)(gaussian, teacher, gaussian).total == 0
    assert HFRDLoss()(gaussian, teacher, gaussian).total > 0


def test_the_hinge_agrees_with_the_published_one() -> None:
    values = np.load(GOLDEN / "labels_and_hinge.npz")
    label, prediction = (torch.as_tensor(values[name]) for name in ("gaussian_label", "prediction"))
    residual = hinge_residual(prediction, label, float(values["threshold"]))
    assert residual.square().mean().item() == pytest.approx(float(values["hinge_loss"]), rel=1e-4)


def test_gradients_are_right_and_the_teacher_gets_none() -> None:
    student = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    gaussian = torch.rand(2, 5, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: HFRDLoss()(x, teacher, gaussian).total, student)
    HFRDLoss()(student, teacher, gaussian).total.backward()
    assert teacher.grad is None


def test_wrong_inputs_are_named() -> None:
    maps = torch.zeros(2, 5, 6)
    with pytest.raises(ShapeError, match="HFRDLoss: teacher_response: axis 2: expected 6 as student_response, got 7"):
        HFRDLoss()(maps, torch.zeros(2, 5, 7), maps)
    with pytest.raises(ShapeError, match="HFRDLoss: gaussian: axes"):
        HFRDLoss()(maps, maps, maps[0])
    with pytest.raises(ShapeError, match="HFRDLoss: student_response: axis 0: expected at least 1, got 0"):
        HFRDLoss()(maps[:0], maps[:0], maps[:0])
    with pytest.raises(NotFiniteError, match="HFRDLoss: teacher_response: values"):
        HFRDLoss()(maps, maps * float("nan"), maps)
    with pytest.raises(ValueError, match="residual: expected one of mse, hinge, got 'l1'"):
        HFRDLoss(residual="l1")  # type: ignore[arg-type]
