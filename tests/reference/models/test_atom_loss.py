import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdistill.reference.models.atom_classifier import OnlineLoss, OnlineSamples, PlainFilter, ProjectedFilter, activate

FRAMES, SEQUENCES, CHANNELS, PROJECTED, SIZE, ALPHA = 3, 2, 5, 3, 6, 0.3
KINDS = ["alone", "projected"]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def residuals(kind: str, samples: OnlineSamples, sequence: int, parameters: Tensor) -> Tensor:
    """All of one sequence's residuals, with torch's own convolutions, projecting before filtering."""
    x = samples.features[:, sequence]
    if kind == "projected":
        projection, parameters = parameters[: PROJECTED * CHANNELS], parameters[PROJECTED * CHANNELS :]
        x = F.conv2d(x, projection.view(PROJECTED, CHANNELS, 1, 1))
        weights = torch.cat([torch.full_like(projection, 0.2), torch.full_like(parameters, 0.7)])
        parameters_all = torch.cat([projection, parameters])
    else:
        weights, parameters_all = torch.full_like(parameters, 0.7), parameters
    scores = F.conv2d(x, parameters.view(1, x.shape[1], 4, 4), padding=2)[:, 0]
    data = F.elu(scores / ALPHA) * ALPHA - samples.labels[:, sequence]
    data = data * samples.weights[:, sequence, None, None].sqrt()
    return torch.cat([data.flatten(), weights.sqrt() * parameters_all])


def problem(kind: str) -> tuple[OnlineLoss, OnlineSamples, Tensor]:
    samples = OnlineSamples(
        random(FRAMES, SEQUENCES, CHANNELS, SIZE, SIZE),
        random(FRAMES, SEQUENCES, SIZE + 1, SIZE + 1),
        torch.rand(FRAMES, SEQUENCES, dtype=torch.float64),
    )
    model = (
        PlainFilter(CHANNELS, (4, 4), 0.7, like=samples.features)
        if kind == "alone"
        else ProjectedFilter(PROJECTED, CHANNELS, (4, 4), (0.2, 0.7), like=samples.features)
    )
    return OnlineLoss(model, samples, ALPHA), samples, 0.3 * random(SEQUENCES, len(model.regularization))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_and_product_agree_with_automatic_differentiation(kind: str) -> None:
    loss, samples, parameters = problem(kind)
    direction = random(*parameters.shape)
    linearized = loss.linearize(parameters)
    gradient, product = linearized.gradient, linearized.product(direction)
    for s in range(SEQUENCES):

        def of_sequence(w: Tensor, s: int = s) -> Tensor:
            return residuals(kind, samples, s, w)

        jacobian = torch.func.jacrev(of_sequence)(parameters[s])
        torch.testing.assert_close(gradient[s], jacobian.T @ of_sequence(parameters[s]))
        torch.testing.assert_close(product[s], jacobian.T @ (jacobian @ direction[s]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [0.0, 0.25, 1.0, -2.0])
def test_the_loss_along_a_step_is_the_true_one(kind: str, length: float) -> None:
    loss, samples, parameters = problem(kind)
    step = random(*parameters.shape)
    got = loss.linearize(parameters).line_loss(step)(length)
    moved = parameters + length * step
    expected = [residuals(kind, samples, s, moved[s]).square().sum() for s in range(SEQUENCES)]
    torch.testing.assert_close(got, torch.stack(expected))


def test_parameters_split_as_they_were_joined() -> None:
    model = ProjectedFilter(PROJECTED, CHANNELS, (4, 2), (0.2, 0.7), like=torch.zeros(1))
    projection, filters = torch.randn(SEQUENCES, PROJECTED, CHANNELS), torch.randn(SEQUENCES, PROJECTED, 4, 2)
    parameters = model.join(projection, filters)
    assert parameters.shape == (SEQUENCES, len(model.regularization))
    assert all(torch.equal(a, b) for a, b in zip(model.split(parameters), (projection, filters), strict=True))


def test_the_activation_by_hand() -> None:
    scores = torch.tensor([2.0, 0.0, -0.05, -1.0, -1e4, 1e4])
    expected = [2.0, 0.0, 0.05 * (math.exp(-1) - 1), -0.05, -0.05, 1e4]
    assert activate(scores, 0.05).tolist() == pytest.approx(expected)
