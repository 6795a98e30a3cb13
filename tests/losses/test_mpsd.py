import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmdistill import FusedPaths, MPSDFusion, MPSDLoss, NotFiniteError, Pair, ShapeError
from mmdistill._numerics import Reduction
from mmdistill.fusion import ConcatFusion


def fused_level(batch: int, channels: int, size: int, weighting: str = "path") -> tuple[MPSDFusion, Pair[Tensor]]:
    block = MPSDFusion(channels, weighting=weighting).double()  # type: ignore[arg-type]
    with torch.no_grad():
        block.path_weights[-1].weight *= 5  # spread the weights so that nu and lambda differ often
    return block, Pair(*torch.randn(2, batch, channels, size, size, dtype=torch.float64))


def by_hand(
    loss: MPSDLoss, student: list[FusedPaths], teacher: list[Tensor], mask: np.ndarray | None = None
) -> tuple[float, float]:
    """CMD eq. 7-10 in NumPy, sample by sample; the mask is ``(B, H, W)``."""
    reduce = {"sum": np.sum, "mean": np.mean}[loss.reduction]
    fusion = penalty = 0.0
    for adapt, level, target in zip(loss.adaptors, student, teacher, strict=True):
        wanted = target.numpy()
        counted = np.ones_like(wanted[:, 0], dtype=bool) if mask is None else mask
        fused = adapt(level.fused).detach().numpy()
        errors = [reduce((a - b)[:, where] ** 2) for a, b, where in zip(wanted, fused, counted, strict=True)]
        fusion += float(np.mean(errors))
        paths = [adapt(path).detach().numpy() for path in level.paths]
        weights = level.weights.detach().numpy()
        if weights.ndim == 3:
            weights = weights.mean(axis=2)
        penalties = []
        for sample in range(len(wanted)):
            errors = [reduce((wanted[sample] - path[sample])[:, counted[sample]] ** 2) for path in paths]
            best, preferred = int(np.argmin(errors)), int(np.argmax(weights[sample]))
            error = errors[best]
            penalties.append(abs(error * weights[sample, preferred] - error * weights[sample, best]))
        penalty += float(np.mean(penalties))
    return fusion, penalty


@settings(max_examples=25)
@given(
    st.integers(1, 4),
    st.sampled_from(["path", "channel"]),
    st.booleans(),
    st.sampled_from(["sum", "mean"]),
    st.integers(0, 100),
)
def test_value_is_equations_seven_to_ten(
    batch: int, weighting: str, same_channels: bool, reduction: Reduction, seed: int
) -> None:
    torch.manual_seed(seed)
    channels = ((3, 3), (4, 4)) if same_channels else ((3, 6), (4, 5))
    loss = MPSDLoss(*zip(*channels, strict=True), reduction=reduction).double()  # type: ignore[arg-type]
    student, teacher = [], []
    for size, (ours, theirs) in zip((6, 3), channels, strict=True):
        block, pair = fused_level(batch, ours, size, weighting)
        student.append(block(pair))
        teacher.append(torch.randn(batch, theirs, size, size, dtype=torch.float64))
    terms = loss(student, teacher)
    fusion, penalty = by_hand(loss, student, teacher)
    assert terms["fusion"].item() == pytest.approx(fusion, rel=1e-12)
    assert terms["penalty"].item() == pytest.approx(penalty, rel=1e-10, abs=1e-14)
    assert terms.total.item() == pytest.approx(fusion + penalty, rel=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_mask_leaves_the_positions_that_count(reduction: Reduction) -> None:
    loss = MPSDLoss((3,), (4,), reduction=reduction).double()
    block, pair = fused_level(4, 3, 5)
    student, teacher = [block(pair)], [torch.randn(4, 4, 5, 5, dtype=torch.float64)]
    mask = torch.rand(4, 1, 5, 5) < torch.tensor([0.2, 0.4, 0.6, 0.8])[:, None, None, None]
    mask[..., 0, 0] = True
    terms = loss(student, teacher, mask=mask)
    expected = by_hand(loss, student, teacher, mask[:, 0].numpy())
    assert [terms["fusion"].item(), terms["penalty"].item()] == pytest.approx(expected, rel=1e-10, abs=1e-14)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(0, 100))
def test_a_sum_is_the_mean_times_the_size_of_the_map(batch: int, channels: int, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    loss = MPSDLoss((2,), (channels,)).double()
    block, pair = fused_level(batch, 2, size)
    inputs = [block(pair)], [torch.randn(batch, channels, size, size, dtype=torch.float64)]
    sums = loss(*inputs)
    loss.reduction = "mean"
    for name, mean in loss(*inputs).items():
        assert sums[name].item() == pytest.approx(mean.item() * channels * size**2, rel=1e-12)


def level_with(weights: list[float], best: int) -> tuple[FusedPaths, Tensor]:
    target = torch.ones(1, 2, 3, 3, dtype=torch.float64)
    paths = torch.zeros(3, 1, 2, 3, 3, dtype=torch.float64)
    paths[best] = 0.5
    return FusedPaths(target * 0, paths, torch.tensor([weights], dtype=torch.float64, requires_grad=True)), target


def test_the_penalty_is_zero_exactly_where_preferred_is_best() -> None:
    loss = MPSDLoss((2,), (2,))
    agree, target = level_with([0.2, 0.5, 0.3], best=1)
    differ, _ = level_with([0.2, 0.5, 0.3], best=2)
    assert loss([agree], [target])["penalty"].item() == 0
    assert loss([differ], [target])["penalty"].item() == pytest.approx(18 * 0.25 * (0.5 - 0.3))


def test_the_penalty_moves_weight_from_the_preferred_to_the_best_path() -> None:
    level, target = level_with([0.2, 0.5, 0.3], best=2)
    MPSDLoss((2,), (2,))([level], [target])["penalty"].backward()
    assert level.weights.grad is not None
    np.testing.assert_allclose(level.weights.grad.numpy(), [[0, 18 * 0.25, -18 * 0.25]])


@pytest.mark.parametrize("detached", [True, False])
def test_only_the_undetached_path_loss_pulls_on_the_paths(detached: bool) -> None:
    level, target = level_with([0.2, 0.5, 0.3], best=2)
    level = level._replace(paths=level.paths.requires_grad_())
    MPSDLoss((2,), (2,), detach_path_loss=detached)([level], [target])["penalty"].backward()
    assert (level.paths.grad is None) == detached


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_are_right_and_the_teacher_gets_none(reduction: Reduction) -> None:
    block, pair = fused_level(2, 2, 3)
    loss = MPSDLoss((2,), (3,), reduction=reduction, detach_path_loss=False).double()
    teacher = torch.randn(2, 3, 3, 3, dtype=torch.float64, requires_grad=True)
    rgb, tir = (member.requires_grad_() for member in pair)
    assert torch.autograd.gradcheck(lambda a, b: loss([block(Pair(a, b))], [teacher]).total, (rgb, tir))
    loss([block(pair)], [teacher]).total.backward()
    assert teacher.grad is None
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in [*loss.parameters(), *block.parameters()])


def test_wrong_inputs_are_named() -> None:
    block, pair = fused_level(2, 2, 4)
    fused, loss = block(pair), MPSDLoss((2,), (3,)).double()
    with pytest.raises(ShapeError, match="MPSDLoss: teacher fused level 1: height: expected 4 as student, got 5"):
        loss([fused], [torch.zeros(2, 3, 5, 4)])
    with pytest.raises(ShapeError, match="MPSDLoss: teacher: levels: expected 1, got 2"):
        loss([fused], [torch.zeros(2, 3, 4, 4)] * 2)
    with pytest.raises(ShapeError, match="student level 1: type: expected FusedPaths, got Tensor"):
        loss([fused.fused], [torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ShapeError, match="student level 1 weights: shape"):
        loss([fused._replace(weights=torch.ones(2, 2))], [torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ShapeError, match=r"level 1 paths: shape: expected \(P, 2, 2, 4, 4\), got \(3, 2, 2, 4, 3\)"):
        loss([fused._replace(paths=fused.paths[..., :3])], [torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ShapeError, match=r"level 1 paths: shape: expected \(P, 2, 2, 4, 4\), got \(0, 2, 2, 4, 4\)"):
        loss([fused._replace(paths=fused.paths[:0])], [torch.zeros(2, 3, 4, 4)])
    with pytest.raises(ValueError, match="MPSDLoss: reduction: expected one of sum, mean, got None"):
        MPSDLoss((2,), (2,), reduction=None)  # type: ignore[arg-type]
    with pytest.raises(NotFiniteError, match="teacher fused level 1"):
        loss([fused], [torch.full((2, 3, 4, 4), float("nan"))])


def test_one_path_leaves_nothing_to_select() -> None:
    block, pair = fused_level(2, 2, 4)
    plain = ConcatFusion(2).double()(pair)
    targets = [torch.randn(2, 2, 4, 4, dtype=torch.float64) for _ in range(2)]
    assert list(MPSDLoss((2,), (2,))([plain], targets[:1])) == ["fusion"]
    loss = MPSDLoss((2, 2), (2, 2))
    mixed = loss([plain, block(pair)], targets)
    fusion, _ = by_hand(loss, [plain, block(pair)], targets)
    _, penalty = by_hand(MPSDLoss((2,), (2,)), [block(pair)], targets[1:])
    assert list(mixed) == ["fusion", "penalty"]
    assert mixed["fusion"].item() == pytest.approx(fusion, rel=1e-12)
    assert mixed["penalty"].item() == pytest.approx(penalty, rel=1e-10, abs=1e-14)
