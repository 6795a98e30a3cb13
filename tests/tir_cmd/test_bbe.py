import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from bbe_cases import Given, states
from torch import Tensor

from mmdistill import BBEDistiller, DeadTermWarning, NotFiniteError, Pair, ShapeError


@pytest.mark.parametrize("scale", ["unit", "signed"])
@pytest.mark.parametrize("form", ["(..., 4)", "(..., 1, 4)", "(..., P)", "(..., P, 1)"])
def test_value_over_overlaps(scale: str, form: str) -> None:
    given = Given()
    overlaps = torch.from_numpy(given.overlaps)
    target = {
        "(..., 4)": given.box,
        "(..., 1, 4)": given.box[:, None],
        "(..., P)": overlaps,
        "(..., P, 1)": overlaps[..., None],
    }[form]
    predicted = given.predictor(given.modulation, given.features, given.proposals).detach().numpy()
    wanted = given.overlaps if scale == "unit" else 2 * given.overlaps - 1
    norm = sum(part.detach().square().sum().item() for part in given.modulation) / 2
    terms = given.terms(BBEDistiller(given.predictor, nu=0.3, scale=scale), target)  # type: ignore[arg-type]
    assert list(terms) == ["box", "regularisation"]
    assert terms["box"].item() == pytest.approx(np.mean((predicted - wanted) ** 2), rel=1e-10)
    assert terms["regularisation"].item() == pytest.approx(0.3 * norm, rel=1e-10)
    torch.testing.assert_close(terms.total, terms["box"] + terms["regularisation"])


@pytest.mark.parametrize("form", ["no proposals", "(..., 4)", "(..., 1, 4)"])
def test_value_over_states(form: str) -> None:
    given = Given()
    modulation, features = torch.randn(2, 4, 1, 1).double().requires_grad_(), torch.randn(2, 4, 3, 3).double()
    proposals = None if form == "no proposals" else given.proposals
    x, y, w, h = given.box.numpy().T
    wanted = np.stack([(x + w / 2) / w, (y + h / 2) / h, np.log(w), np.log(h)], axis=1)
    predicted = states(modulation, features, proposals).detach().numpy()
    expected = np.mean((predicted - (wanted if proposals is None else wanted[:, None])) ** 2)
    target = given.box[:, None] if form == "(..., 1, 4)" else given.box
    terms = BBEDistiller(states, scale=None, target="state")(modulation, features, proposals, target)
    assert terms["box"].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("detach", [None, "reference", "test"])
def test_gradients_are_right_and_only_a_detached_side_gets_none(detach: Any) -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale="unit", nu=0.1, detach=detach)
    learners = {"reference": given.modulation, "test": (given.features,)}
    for side, tensors in learners.items():
        gradients = torch.autograd.grad(given.terms(loss).total, tensors, allow_unused=True)
        assert all((gradient is None) == (side == detach) for gradient in gradients)

    def total(first: Tensor, second: Tensor, features: Tensor, *weights: Tensor) -> Tensor:
        modulation = (first, second)

        def predictor(*args: Any) -> Tensor:
            named = dict(zip(("layer.weight", "layer.bias"), weights, strict=True))
            return torch.func.functional_call(given.predictor, named, args)

        return BBEDistiller(predictor, scale="unit", nu=0.1)(modulation, features, given.proposals, given.box).total

    assert torch.autograd.gradcheck(total, (*given.modulation, given.features, *given.predictor.parameters()))


def test_what_has_nothing_to_teach_is_left_out() -> None:
    given = Given()
    assert list(given.terms(BBEDistiller(given.predictor, scale="unit", detach="reference"))) == ["box"]
    assert list(given.terms(BBEDistiller(given.predictor, scale="unit", nu=0.0))) == ["box"]


def test_the_predictor_stays_the_trackers() -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale="unit")
    assert loss.predictor is given.predictor
    assert not list(loss.parameters())
    assert not loss.state_dict()
    loss.eval().float()
    assert given.predictor.training
    assert given.predictor.layer.weight.dtype == torch.float64
    given.terms(loss).total.backward()
    assert given.predictor.layer.weight.grad is not None
    bound = BBEDistiller(given.predictor.forward, scale="unit")
    assert torch.equal(given.terms(bound).total, given.terms(loss).total)
    twin = copy.deepcopy(loss)
    assert twin.predictor is not given.predictor


def test_the_predictor_is_given_the_modulation_in_its_own_type() -> None:
    given = Given()
    modulation = Pair(*given.modulation)
    BBEDistiller(given.predictor, scale="unit", detach="reference")(
        modulation, given.features, given.proposals, given.box
    )
    assert isinstance(given.predictor.asked, Pair)
    assert not given.predictor.asked.rgb.requires_grad
    BBEDistiller(given.predictor, scale="unit")(modulation, given.features, given.proposals, given.box)
    assert given.predictor.asked is modulation


def test_a_large_half_modulation_has_a_finite_norm() -> None:
    modulation = torch.full((2, 5, 1, 1), 300.0, dtype=torch.float16, requires_grad=True)
    terms = BBEDistiller(lambda *_: torch.zeros(2, 3), scale="unit", nu=1.0, check_values=False)(
        modulation, None, torch.ones(2, 3, 4), torch.ones(2, 4)
    )
    assert terms["regularisation"] == 5 * 300.0**2


def test_more_leading_axes_are_the_predictors_affair() -> None:
    """Frames of sequences, each sequence with one modulation."""
    proposals, boxes = torch.rand(3, 2, 6, 4) + 0.5, torch.rand(3, 2, 4) + 0.5
    modulation = torch.randn(2, 5, requires_grad=True)
    loss = BBEDistiller(lambda m, f, p: (m * f).sum(dim=-1)[..., None] * p.mean(dim=-1), scale="unit")
    assert loss(modulation, torch.randn(3, 2, 5), proposals, boxes).total.requires_grad


def test_four_proposals_need_the_longer_forms() -> None:
    given = Given(proposals=4)
    loss = BBEDistiller(given.predictor, scale="unit")
    overlaps = torch.from_numpy(given.overlaps)
    for target in (given.box, overlaps):
        message = (
            r"target: axes: expected boxes as \(2, 1, 4\) or overlaps as \(2, 4, 1\), as there are 4 proposals, got"
        )
        with pytest.raises(ShapeError, match=message):
            given.terms(loss, target)
    torch.testing.assert_close(
        given.terms(loss, given.box[:, None]).total, given.terms(loss, overlaps[..., None]).total
    )


def refused(side: str, change: Callable[[Given], Any]) -> Any:
    return pytest.param(side, change, id=side)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        refused("proposals: type: expected a tensor", lambda g: (g.modulation, g.features, None, g.box)),
        refused("proposals: axes: expected", lambda g: (g.modulation, g.features, g.box[0], g.box)),
        refused(
            "proposals: last axis: expected 4, x y w h, got 3", lambda g: (*_inputs(g), g.proposals[..., :3], g.box)
        ),
        refused("target: axes: expected boxes", lambda g: (*_inputs(g), g.proposals, g.box[:1])),
        refused("target: axes: expected boxes", lambda g: (*_inputs(g), g.proposals, g.box[:, None, None])),
        refused("target: type: expected a tensor, got list", lambda g: (*_inputs(g), g.proposals, [1, 2])),
        refused("modulation: type: expected a tensor", lambda g: ("no", g.features, g.proposals, g.box)),
        refused("modulation: type: expected a tensor", lambda g: ([], g.features, g.proposals, g.box)),
        refused(
            "modulation part 2: batch: expected 2 as the first part, got 1",
            lambda g: ((g.modulation[0], g.modulation[1][:1]), g.features, g.proposals, g.box),
        ),
        refused("modulation: axes: expected", lambda g: (g.modulation[1][0], g.features, g.proposals, g.box)),
        refused("modulation part 1: axis 0: expected at least 1, got 0", lambda g: (_empty(g), *_rest(g))),
    ],
)
def test_wrong_inputs_are_named(message: str, call: Callable[[Given], Any]) -> None:
    given = Given()
    with pytest.raises(ShapeError, match=f"BBEDistiller: {message}"):
        BBEDistiller(given.predictor, scale="unit")(*call(given))


def _inputs(given: Given) -> tuple[Any, Tensor]:
    return given.modulation, given.features


def _rest(given: Given) -> tuple[Tensor, Tensor, Tensor]:
    return given.features, given.proposals, given.box


def _empty(given: Given) -> list[Tensor]:
    return [part[:0] for part in given.modulation]


@pytest.mark.parametrize(
    ("target", "prediction", "expected"),
    [
        ("iou", torch.zeros(2, 5), r"\(2, 6\), got \(2, 5\)"),
        ("iou", torch.zeros(1, 6), r"\(2, 6\), got \(1, 6\)"),
        ("iou", torch.zeros(2, 6, 6), r"\(2, 6\), got \(2, 6, 6\)"),
        ("state", torch.zeros(2, 3, 4), r"\(2, 6, 4\), got \(2, 3, 4\)"),
        ("state", torch.zeros(1, 4), r"\(2, 4\), got \(1, 4\)"),
        ("iou", (torch.zeros(2, 6),), "a tensor, got tuple"),
    ],
)
def test_a_prediction_is_never_broadcast(target: Any, prediction: Any, expected: str) -> None:
    given = Given()
    with pytest.raises(ShapeError, match=f"BBEDistiller: prediction: .*: expected {expected}"):
        given.terms(BBEDistiller(lambda *_: prediction, scale="unit", target=target))


def test_states_have_shapes_too() -> None:
    given = Given()
    loss = BBEDistiller(lambda *_: torch.zeros(2, 0, 4), scale=None, target="state")
    with pytest.raises(ShapeError, match=r"prediction: axes: expected \(2, 1, 4\), got \(2, 0, 4\)"):
        loss(given.modulation, given.features, None, given.box)
    with pytest.raises(ShapeError, match=r"target: axes: expected \(2, 4\) as proposals, got \(1, 4\)"):
        given.terms(BBEDistiller(states, scale=None, target="state"), given.box[:1])
    with pytest.raises(ShapeError, match=r"target: axes: expected \(B, \.\.\., 4\), got \(4,\)"):
        given.terms(BBEDistiller(states, scale=None, target="state"), given.box[0])


def test_what_is_not_finite_is_named() -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale="unit")
    broken = [part * torch.nan if n else part for n, part in enumerate(given.modulation)]
    with pytest.raises(NotFiniteError, match="modulation part 2: values: expected finite, got 6 NaN or infinite"):
        loss(broken, given.features, given.proposals, given.box)
    with pytest.raises(NotFiniteError, match="features: values"):
        loss(given.modulation, given.features * torch.nan, given.proposals, given.box)
    with pytest.raises(NotFiniteError, match="proposals: values"):
        loss(given.modulation, given.features, given.proposals * torch.nan, given.box)
    with pytest.raises(NotFiniteError, match="target: values"):
        given.terms(loss, given.box * torch.nan)
    flat = given.box * torch.tensor([1.0, 1.0, 0.0, 1.0])
    with pytest.raises(ShapeError, match="target: values: expected w and h of x y w h above 0, got 0 to 9"):
        given.terms(BBEDistiller(lambda *_: given.box, scale=None, target="state"), flat)
    assert given.terms(
        BBEDistiller(given.predictor, scale="unit", check_values=False), given.box * torch.nan
    ).total.isnan()


def test_a_side_that_hides_its_tensors_cannot_be_detached() -> None:
    given = Given()
    loss = BBEDistiller(lambda *_: given.modulation[1].sum() * torch.ones(2, 6), scale="unit", detach="test")
    with pytest.raises(ShapeError, match="BBEDistiller: features: type: expected a tensor or a sequence of tensors"):
        loss(given.modulation, object(), given.proposals, given.box)


def test_proposals_and_a_predictor_that_saves_them_may_be_of_inference_mode() -> None:
    given = Given()
    loss = BBEDistiller(
        lambda m, f, p: (m[1][:, None] * p[..., :3]).sum(-1) * f.mean(dim=(1, 2, 3))[:, None], scale="unit"
    )
    learners = given.modulation[1]
    (expected,) = torch.autograd.grad(given.terms(loss).total, learners)
    with torch.inference_mode():
        proposals, box, features = (x.detach().clone() for x in (given.proposals, given.box, given.features))
    (gradient,) = torch.autograd.grad(loss(given.modulation, features, proposals, box).total, learners)
    torch.testing.assert_close(gradient, expected)


def test_wrong_settings_are_named() -> None:
    for name, value in {"target": "box", "scale": "percent", "detach": "predictor", "nu": -1.0}.items():
        with pytest.raises(ValueError, match=f"BBEDistiller: {name}: expected .*, got {value!r}"):
            BBEDistiller(states, **{"scale": "unit", name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="predictor: expected callable, got 'predictor'"):
        BBEDistiller("predictor", scale="unit")  # type: ignore[arg-type]


def test_a_loss_that_teaches_nobody_is_warned_of_and_a_learning_predictor_is_somebody() -> None:
    given = Given()
    frozen = [part.detach() for part in given.modulation]
    inputs = (frozen, given.features.detach(), given.proposals, given.box)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        BBEDistiller(given.predictor, scale="unit")(*inputs)
    given.predictor.requires_grad_(False)
    with pytest.warns(DeadTermWarning, match="BBEDistiller: no student input requires gradient") as warned:
        BBEDistiller(given.predictor, scale="unit")(*inputs)
    assert warned[0].filename == __file__
