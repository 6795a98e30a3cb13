import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mmdistill.reference.models.gauss_newton import Linearized, conjugate_gradient, minimize


def definite(rows: int, size: int) -> torch.Tensor:
    factor = torch.randn(rows, size, size, dtype=torch.float64)
    return factor @ factor.mT + 0.1 * torch.eye(size, dtype=torch.float64)


def times(matrices: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda x: (matrices @ x[..., None])[..., 0]


def test_as_many_iterations_as_unknowns_solve_every_row() -> None:
    matrices, target = definite(3, 6), torch.randn(3, 6, dtype=torch.float64)
    solution = conjugate_gradient(times(matrices), target, 8)
    np.testing.assert_allclose(
        solution, np.linalg.solve(matrices.numpy(), target.numpy()[..., None])[..., 0], rtol=1e-6
    )


def best_of_krylov_space(matrix: np.ndarray, b: np.ndarray, size: int) -> np.ndarray:
    """The x among b, A b, ..., A^(size-1) b and their sums for which x A x - 2 b x is lowest."""
    basis = b[:, None] / np.linalg.norm(b)
    for _ in range(size - 1):
        basis, _ = np.linalg.qr(np.concatenate([basis, matrix @ basis[:, -1:]], axis=1))
    return basis @ np.linalg.solve(basis.T @ matrix @ basis, basis.T @ b)


@pytest.mark.parametrize("iterations", [1, 2, 4])
def test_each_iterate_is_the_best_of_its_krylov_space(iterations: int) -> None:
    matrices, target = definite(2, 7), torch.randn(2, 7, dtype=torch.float64)
    solution = conjugate_gradient(times(matrices), target, iterations)
    for matrix, b, x in zip(matrices.numpy(), target.numpy(), solution.numpy(), strict=True):
        np.testing.assert_allclose(x, best_of_krylov_space(matrix, b, iterations), rtol=1e-7)


@pytest.mark.parametrize("iterations", [5, 8, 10, 15])
def test_one_dominant_eigenvalue_does_no_harm(iterations: int) -> None:
    # If residuals were not made orthogonal again, the error would be a sixth of the solution or more.
    generator = torch.Generator().manual_seed(0)
    eigenvalues = torch.cat([torch.tensor([1e4]), torch.linspace(0.1, 10, 59)])
    target = torch.randn(1, 60, generator=generator)
    solution = conjugate_gradient(lambda x: eigenvalues * x, target, iterations)
    expected = best_of_krylov_space(np.diag(eigenvalues.double().numpy()), target[0].double().numpy(), iterations)
    assert np.linalg.norm(solution[0].numpy() - expected) < 1e-5 * np.linalg.norm(expected)


def test_solved_rows_stay_unchanged() -> None:
    matrices, target = definite(3, 6), torch.randn(3, 6, dtype=torch.float64)
    matrices[0] = 2 * torch.eye(6)  # solved at once
    target[1] = 0  # solved before
    solution = conjugate_gradient(times(matrices), target, 50)
    torch.testing.assert_close(solution[0], target[0] / 2)
    assert solution[1].tolist() == [0] * 6
    torch.testing.assert_close(solution[2], conjugate_gradient(times(matrices[2:]), target[2:], 50)[0])
    torch.testing.assert_close(solution[2], torch.linalg.solve(matrices[2], target[2]))


def test_a_direction_without_curvature_is_not_taken() -> None:
    solution = conjugate_gradient(torch.zeros_like, torch.ones(1, 3), 4)
    assert solution.tolist() == [[0, 0, 0]]


def scalar(
    residual: Callable[[torch.Tensor], torch.Tensor], slope: Callable[[torch.Tensor], torch.Tensor]
) -> Callable[[torch.Tensor], Linearized]:
    """One residual of one unknown per problem."""

    def linearize(w: torch.Tensor) -> Linearized:
        return Linearized(
            slope(w) * residual(w),
            lambda d: slope(w).square() * d,
            lambda step: lambda length: residual(w + length * step).square()[:, 0],
        )

    return linearize


def test_a_linear_problem_is_solved_by_one_whole_step() -> None:
    linearize = scalar(lambda w: 3 * w - 6, lambda w: torch.full_like(w, 3))
    assert minimize(linearize, torch.tensor([[0.0], [2.0], [7.0]]), 1, 1).flatten().tolist() == [2, 2, 2]


def test_overshooting_steps_are_shortened_per_problem() -> None:
    # From 3 the whole step of atan w = 0 lands at -9.5, and the next ones ever further away.
    linearize = scalar(torch.atan, lambda w: 1 / (1 + w.square()))
    start = torch.tensor([[3.0], [0.5]], dtype=torch.float64)
    first = minimize(linearize, start, 1, 1).flatten().tolist()
    assert first == pytest.approx([3 - 10 * math.atan(3) / 4, 0.5 - 1.25 * math.atan(0.5)])
    assert minimize(linearize, start, 6, 1).flatten().tolist() == pytest.approx([0, 0], abs=1e-12)


def test_a_problem_without_an_improving_length_stays() -> None:
    # The slope has the wrong sign, so every step is uphill.
    linearize = scalar(lambda w: w, lambda w: -torch.ones_like(w))
    assert minimize(linearize, torch.tensor([[2.0]]), 3, 1).tolist() == [[2]]
