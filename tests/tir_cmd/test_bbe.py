import copy
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdistill import BBEDistiller, DeadTermWarning, NotFiniteError, Pair, ShapeError, Terms


class Predictor(nn.Module):
    """Overlaps of proposals, of a modulation of two parts and one map."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(7, 1)
        self.asked: Any = None

    def forward(self, modulation: Any, features: Tensor, proposals: Tensor) -> Tensor:
        self.asked = modulation
        seen = (modulation[0] * features).mean(dim=(2, 3)) + modulation[1]
        count = proposals.shape[-2]
        joined = torch.cat([seen[:, None].expand(-1, count, -1), proposals / 20], dim=-1)
        return self.layer(joined).squeeze(-1)


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    low = np.maximum(first[:2], second[:2])
    high = np.minimum(first[:2] + first[2:], second[:2] + second[2:])
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / float(np.prod(first[2:]) + np.prod(second[2:]) - shared)


class Given:
    """A batch of two, six proposals each."""

    def __init__(self, proposals: int = 6) -> None:
        torch.manual_seed(0)
        self.predictor = Predictor().double()
        self.modulation = (
            torch.randn(2, 3, 1, 1, dtype=torch.float64, requires_grad=True),
            torch.randn(2, 3, dtype=torch.float64, requires_grad=True),
        )
        self.features = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
        self.box = torch.tensor([[2.0, 3.0, 8.0, 6.0], [5.0, 1.0, 4.0, 9.0]], dtype=torch.float64)
        noise = torch.randn(2, proposals, 4, dtype=torch.float64)
        self.proposals = (self.box[:, None] + noise).clamp(min=0.5)

    @property
    def overlaps(self) -> np.ndarray:
        pairs = zip(self.proposals.numpy(), self.box.numpy(), strict=True)
        return np.array([[overlap(proposal, box) for proposal in boxes] for boxes, box in pairs])

    def terms(self, loss: nn.Module, target: Tensor | None = None) -> Terms:
        terms: Terms = loss(self.modulation, self.features, self.proposals, self.box if target is None else target)
        return terms


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


def states(modulation: Tensor, features: Tensor, proposals: Tensor | None) -> Tensor:
    """One state a sample, or one a proposal."""
    state = (modulation * features).mean(dim=(2, 3))
    return state if proposals is None else state[:, None] + proposals


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


def test_a_scale_is_required_and_a_wrong_one_is_named() -> None:
    with pytest.raises(TypeError, match="scale"):
        BBEDistiller(states)  # type: ignore[call-arg]
    for scale in (None, "percent", 1):
        with pytest.raises(ValueError, match=r"BBEDistiller: scale: expected 'unit' .* or 'signed' .* 2 IoU - 1"):
            BBEDistiller(states, scale=scale)  # type: ignore[arg-type]
    for scale in (None, "unit", "signed"):  # a state has none
        assert BBEDistiller(states, target="state", scale=scale).scale == scale  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["unit", "signed"])
def test_a_perfect_predictor_has_no_error_on_its_own_scale_and_some_on_the_other(scale: Any) -> None:
    given = Given()
    overlaps = torch.from_numpy(given.overlaps)
    own, other = (overlaps, 2 * overlaps - 1) if scale == "unit" else (2 * overlaps - 1, overlaps)
    for target in (given.box, overlaps):
        assert given.terms(BBEDistiller(lambda *_: own, scale=scale), target)["box"] < 1e-20
        # 2 IoU - 1 and IoU are 1 - IoU apart.
        expected = float(np.mean((1 - given.overlaps) ** 2))
        assert given.terms(BBEDistiller(lambda *_: other, scale=scale), target)["box"].item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["unit", "signed"])
@pytest.mark.parametrize("form", ["(..., P)", "(..., P, 1)"])
def test_overlaps_out_of_range_are_refused_with_what_was_found(scale: Any, form: str) -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale=scale)
    for low, high in ((-0.25, 1.0), (0.0, 1.001), (-1.0, 90.0)):
        overlaps = torch.linspace(low, high, 12, dtype=torch.float64).reshape(2, 6)
        target = overlaps if form == "(..., P)" else overlaps[..., None]
        message = f"BBEDistiller: target: values: expected overlaps .* from 0 to 1 .*, got {low:.4g} to {high:.4g}$"
        with pytest.raises(ShapeError, match=message):
            given.terms(loss, target)
        unchecked = BBEDistiller(given.predictor, scale=scale, check_values=False)
        assert given.terms(unchecked, target).total.isfinite()
    # DiMP's own data have the proposals' overlaps on its scale already.
    with pytest.raises(ShapeError, match="target: values: expected overlaps"):
        given.terms(loss, torch.linspace(-0.8, 1, 12, dtype=torch.float64).reshape(2, 6))
    with pytest.raises(NotFiniteError, match="target: values: expected finite, got 12 NaN"):
        given.terms(loss, torch.full((2, 6), torch.nan, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rounding_is_no_overlap_out_of_range(dtype: torch.dtype) -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale="signed")
    step = max(1e-7, torch.finfo(dtype).eps)
    overlaps = torch.tensor([[0.0, 1.0, 1 + step, -step / 2, 0.5, 1.0]] * 2, dtype=torch.float64).to(dtype)
    assert overlaps.max() >= 1
    assert given.terms(loss, overlaps).total.isfinite()


@pytest.mark.parametrize("target", ["iou", "state"])
@pytest.mark.parametrize("sides", [(0.0, 1.0), (1.0, -3.0)])
@pytest.mark.parametrize("form", ["(..., 4)", "(..., 1, 4)"])
def test_a_target_box_without_area_is_refused(target: Any, sides: tuple[float, float], form: str) -> None:
    given = Given()
    given.box[1, 2:] = torch.tensor(sides, dtype=torch.float64)
    box = given.box if form == "(..., 4)" else given.box[:, None]
    loss = BBEDistiller(given.predictor, scale="unit", target=target)
    with pytest.raises(
        ShapeError, match=f"target: values: expected w and h of x y w h above 0, got {min(sides):.4g} to"
    ):
        given.terms(loss, box)


def test_the_range_is_checked_in_the_one_read_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read makes the host wait for the GPU."""
    reads: list[str] = []
    for name in ("__bool__", "__float__", "__int__", "item", "tolist"):
        original = getattr(torch.Tensor, name)

        def counted(tensor: Tensor, *args: Any, name: str = name, original: Any = original) -> Any:
            reads.append(name)
            return original(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    given = Given()
    for target in (given.box, torch.from_numpy(given.overlaps)):
        for check_values, expected in ((True, 1), (False, 0)):
            loss = BBEDistiller(given.predictor, scale="unit", check_values=check_values)
            reads.clear()
            given.terms(loss, target).total.backward()
            assert len(reads) == expected


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
