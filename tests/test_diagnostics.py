from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdistill import HFRDLoss, Terms
from mmdistill.diagnostics import dead_terms, gradient_norms, gradient_shares


class Student(nn.Module):
    """Two layers, of which the second reads the first detached."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4, dtype=torch.float64), nn.Linear(4, 2, dtype=torch.float64)

    def forward(self, values: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.first(values)
        return hidden, self.second(hidden.detach())


def test_norms_are_those_of_the_gradients_by_hand() -> None:
    student, values = Student(), torch.randn(5, 3, dtype=torch.float64)
    hidden, output = student(values)
    terms = Terms.weighted((7.0, Terms.summed(hidden=hidden.square().sum(), output=output.sum())))
    x, h = values.numpy(), hidden.detach().numpy()
    # Of sum(h^2), h = x W' + b: 2 h'x and the column sums of 2 h; of sum(h V' + c): each row of V the sum of h; 5.
    expected = {
        "hidden": {
            "first.weight": np.linalg.norm(2 * h.T @ x),
            "first.bias": np.linalg.norm(2 * h.sum(axis=0)),
            "second.weight": 0.0,
            "second.bias": 0.0,
        },
        "output": {
            "first.weight": 0.0,
            "first.bias": 0.0,
            "second.weight": np.sqrt(2) * np.linalg.norm(h.sum(axis=0)),
            "second.bias": np.sqrt(2) * 5,
        },
    }
    got = gradient_norms(terms, student.named_parameters())
    assert got.keys() == expected.keys()
    for term, norms in got.items():
        assert norms == pytest.approx(expected[term], rel=1e-12)


def test_shares_are_those_of_the_weighted_gradients_by_hand() -> None:
    student, values = Student(), torch.randn(5, 3, dtype=torch.float64)
    hidden, output = student(values)
    own = Terms.summed(tracking=hidden.sum() + output.sum())
    distillation = Terms({"hidden": hidden.square().sum(), "output": output.sum()}, weights={"hidden": -3, "output": 0})
    terms = Terms.weighted((2.0, own), (0.5, distillation))
    x, h = values.numpy(), hidden.detach().numpy()
    # As above, each term's gradients at all four parameters as one vector, times 2, 0.5 * -3 and 0.
    ones = np.ones((5, 4))
    tracking = [ones.T @ x, ones.sum(axis=0), np.tile(h.sum(axis=0), (2, 1)), np.full(2, 5.0)]
    squares = [2 * h.T @ x, 2 * h.sum(axis=0)]
    norms = {
        "tracking": 2 * np.linalg.norm(np.concatenate([part.ravel() for part in tracking])),
        "hidden": 1.5 * np.linalg.norm(np.concatenate([part.ravel() for part in squares])),
        "output": 0.0,
    }
    shares = gradient_shares(terms, student)
    assert list(shares) == list(norms)
    for term, norm in norms.items():
        assert shares[term].norm == pytest.approx(norm, rel=1e-12)
        assert shares[term].share == pytest.approx(norm / sum(norms.values()), rel=1e-12)
    assert shares == gradient_shares(terms, student.named_parameters())


def test_shares_agree_with_the_gradient_of_each_weighted_term_alone() -> None:
    torch.manual_seed(0)
    student, values = Student(), torch.randn(5, 3, dtype=torch.float64)
    weights = {"square": 0.25, "cube": -40.0, "output": 3.0}

    def weighted_terms() -> dict[str, Tensor]:
        hidden, output = student(values)
        raw = {"square": hidden.square().mean(), "cube": hidden.pow(3).mean(), "output": output.abs().mean()}
        return {name: weights[name] * value for name, value in raw.items()}

    norms = {}
    for name in weights:
        student.zero_grad()
        weighted_terms()[name].backward()
        gradients = [each.grad.numpy().ravel() for each in student.first.parameters() if each.grad is not None]
        norms[name] = np.linalg.norm(np.concatenate(gradients)) if gradients else 0.0
    student.zero_grad()
    raw = {name: value / weights[name] for name, value in weighted_terms().items()}
    shares = gradient_shares(Terms(raw, weights=weights), student.first)
    for name, (norm, share) in shares.items():
        assert norm == pytest.approx(norms[name], rel=1e-12)
        assert share == pytest.approx(norms[name] / sum(norms.values()), rel=1e-12)
    assert shares["output"] == (0.0, 0.0)  # the second layer reads the first detached


def test_shares_at_features_are_those_of_the_tensors() -> None:
    feature = nn.Linear(3, 4, dtype=torch.float64)(torch.randn(5, 3, dtype=torch.float64))
    other = torch.randn(2, dtype=torch.float64, requires_grad=True)
    frozen = torch.randn(2, dtype=torch.float64)
    terms = Terms.summed(sum=feature.sum(), square=feature.square().sum() + 3 * other[0])
    shares = gradient_shares(terms, [("level", feature), ("other", other), ("frozen", frozen)])
    square = np.hypot(np.linalg.norm(2 * feature.detach().numpy()), 3)
    assert shares["sum"].norm == pytest.approx(np.sqrt(20), rel=1e-12)
    assert shares["square"].norm == pytest.approx(square, rel=1e-12)
    assert shares["square"].share == pytest.approx(square / (square + np.sqrt(20)), rel=1e-12)


def test_shares_without_any_gradient_are_zero_and_with_an_infinite_one_are_nan() -> None:
    parameter, unused = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.ones(2))
    dead = Terms.summed(zero=(parameter * 0).sum(), detached=parameter.detach().sum())
    assert gradient_shares(dead, [("p", parameter), ("unused", unused)]) == {"zero": (0, 0), "detached": (0, 0)}
    assert gradient_shares(Terms.summed(sum=parameter.sum()), [("unused", unused)]) == {"sum": (0, 0)}
    infinite = Terms.summed(root=parameter.sqrt().sum(), sum=parameter.sum())
    shares = gradient_shares(infinite, [("p", parameter)])
    assert shares["root"].norm == np.inf
    assert shares["sum"].norm == pytest.approx(np.sqrt(2))
    assert all(np.isnan(share) for _, share in shares.values())


def test_the_users_own_backward_is_as_if_nobody_had_asked() -> None:
    student, values = Student(), torch.randn(5, 3, dtype=torch.float64)

    def gradients(*, asked: bool) -> list[Tensor]:
        student.zero_grad()
        hidden, output = student(values)
        terms = Terms.summed(hidden=hidden.square().sum(), output=output.square().sum())
        if asked:
            gradient_norms(terms, student.named_parameters())
            gradient_shares(terms, student)
            assert all(parameter.grad is None for parameter in student.parameters())
        terms.total.backward()
        return [parameter.grad for parameter in student.parameters() if parameter.grad is not None]

    for got, want in zip(gradients(asked=True), gradients(asked=False), strict=True):
        assert torch.equal(got, want)
        assert got.abs().sum() > 0


def test_dead_terms_are_those_without_a_way_or_with_a_gradient_of_zero() -> None:
    student = Student()
    hidden, output = student(torch.randn(5, 3, dtype=torch.float64))
    teacher = nn.Linear(3, 4, dtype=torch.float64)(torch.randn(5, 3, dtype=torch.float64))
    terms = Terms.summed(
        alive=output.sum(),
        detached=hidden.sum().detach(),
        zero=(hidden * 0).sum(),
        elsewhere=teacher.sum(),
        saturated=(hidden.abs() + 1).neg().relu().sum(),
    )
    assert dead_terms(terms, student.named_parameters()) == ["detached", "zero", "elsewhere", "saturated"]
    assert dead_terms(terms, student) == dead_terms(terms, student.named_parameters())
    assert dead_terms(terms, student.first) == [
        "alive",
        "detached",
        "zero",
        "elsewhere",
        "saturated",
    ]


def test_a_gradient_that_is_not_finite_is_not_taken_for_a_dead_one() -> None:
    parameter = nn.Parameter(torch.zeros(2))
    terms = Terms.summed(norm=(parameter - parameter).norm() + parameter.sqrt().sum())
    assert not np.isfinite(gradient_norms(terms, [("p", parameter)])["norm"]["p"])
    assert dead_terms(terms, [("p", parameter)]) == []


def test_norms_in_half_precision_do_not_overflow() -> None:
    parameter = nn.Parameter(torch.ones(256, dtype=torch.float16))
    terms = Terms.summed(large=(parameter * 30000).sum(dtype=torch.float32))
    assert gradient_norms(terms, [("p", parameter)])["large"]["p"] == pytest.approx(16 * 30000, rel=1e-3)


def test_a_loss_of_this_library_reaches_the_student_and_not_with_its_features_detached() -> None:
    student = nn.Conv2d(3, 1, 3, padding=1)
    images, teacher, label = torch.randn(2, 3, 5, 6), torch.rand(2, 1, 5, 6), torch.rand(2, 1, 5, 6)
    assert dead_terms(HFRDLoss()(student(images), teacher, label), student.named_parameters()) == []
    detached = HFRDLoss()(student(images).detach(), teacher, label)
    assert dead_terms(detached, student.named_parameters()) == ["response"]


def test_frozen_parameters_are_left_out_and_all_frozen_is_refused() -> None:
    student = Student()
    student.second.requires_grad_(False)
    hidden, _ = student(torch.randn(5, 3, dtype=torch.float64))
    terms = Terms.summed(hidden=hidden.sum())
    assert list(gradient_norms(terms, student.named_parameters())["hidden"]) == ["first.weight", "first.bias"]
    for parameters in ([], list(student.second.named_parameters())):
        with pytest.raises(ValueError, match="expected at least one that requires gradient, got none"):
            dead_terms(terms, parameters)
        with pytest.raises(ValueError, match=r"gradient_shares: .* expected at least one that requires gradient"):
            gradient_shares(terms, parameters)


def test_what_are_no_terms_and_no_named_parameters_is_refused() -> None:
    student = nn.Linear(1, 2)  # whose weight can be taken apart into two
    terms = Terms.summed(sum=student(torch.ones(1)).sum())
    wrong: list[tuple[Any, str]] = [
        (student.parameters(), "Parameter"),
        (3, "int"),
        (["w"], "str"),
    ]
    for parameters, got in wrong:
        for function, argument in ((dead_terms, "parameters"), (gradient_shares, "features_or_parameters")):
            said = f"{function.__name__}: {argument}: expected a module, or pairs of a name and a parameter.* got {got}"
            with pytest.raises(TypeError, match=said):
                function(terms, parameters)
    with pytest.raises(TypeError, match="expected Terms, got dict"):
        gradient_norms(terms.as_dict(), student.named_parameters())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="gradient_shares: terms: expected Terms, got dict"):
        gradient_shares(terms.as_dict(), student)  # type: ignore[arg-type]


def test_two_models_need_names_of_their_own() -> None:
    first, second = nn.Linear(1, 1), nn.Linear(1, 1)

    def both() -> Iterator[tuple[str, nn.Parameter]]:
        yield from first.named_parameters()
        yield from second.named_parameters()

    terms = Terms.summed(sum=second(first(torch.ones(1))).sum())
    with pytest.raises(ValueError, match="'weight' twice; use prefixes"):
        gradient_norms(terms, both())
    prefixed = [*first.named_parameters("student"), *second.named_parameters("loss")]
    assert list(gradient_norms(terms, prefixed)["sum"]) == [
        "student.weight",
        "student.bias",
        "loss.weight",
        "loss.bias",
    ]
