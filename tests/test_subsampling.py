import itertools
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import pyramids
from torch import Tensor

from mmdistill import Pair, SCFDLoss
from mmdistill._numerics import Reduction
from mmdistill._subsampling import (
    MAX_SUBSAMPLING,
    Grid,
    Positions,
    Size,
    Tile,
    TracedGrid,
    draw_grid,
    draw_tile,
    draw_traced_grid,
    grid_strides,
)
from mmdistill.losses import scfd

SIZES = [(8, 12), (9, 7), (1, 5), (6, 6)]


def grids(step: Size) -> list[Grid]:
    return [Grid(step, offset) for offset in itertools.product(*map(range, step))]


def tiles(size: Size, deeper: Size, counts: Size) -> list[Tile]:
    """Every tile that can be drawn, found by drawing."""
    found = {draw_tile(size, deeper, counts) for _ in range(200)}
    return sorted(found, key=lambda tile: (tile.rows, tile.columns))


def choices(size: Size) -> list[list[Positions]]:
    kinds: list[list[Positions]] = [[*grids((2, 2))] if min(size) > 1 else [*grids((1, 2))], [*grids((1, 3))]]
    if size[0] % 3 == 0 and size[1] % 2 == 0:
        kinds.append([*tiles(size, (size[0] // 3, size[1] // 2), (2, 2))])
    return kinds


@pytest.mark.parametrize("size", SIZES)
def test_each_position_is_in_exactly_one_choice(size: Size) -> None:
    features = torch.arange(size[0] * size[1]).view(1, 1, *size)
    for kind in choices(size):
        taken = torch.cat([positions.select(features).flatten() for positions in kind])
        assert sorted(taken.tolist()) == list(range(size[0] * size[1]))
        assert {positions.count for positions in kind} == {len(kind)}


@pytest.mark.parametrize("size", SIZES)
def test_the_mean_over_the_choices_is_the_sum_over_the_map(size: Size) -> None:
    features = torch.randn(2, 3, *size, dtype=torch.float64)
    for kind in choices(size):
        sums = [positions.select(features).sum() * positions.count for positions in kind]
        torch.testing.assert_close(torch.stack(sums).mean(), features.sum())


@pytest.mark.parametrize("size", SIZES)
def test_the_convolution_is_the_whole_maps_at_these_positions(size: Size) -> None:
    features, weight = torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    whole = F.conv2d(features, weight, padding=1)
    for kind in choices(size):
        for positions in kind:
            given = positions.crop(features) if isinstance(positions, Tile) else features
            torch.testing.assert_close(positions.convolve(given, weight), positions.select(whole))


@pytest.mark.parametrize("step", [(2, 2), (1, 3)])
def test_a_traced_grid_is_the_same_grid(step: Size) -> None:
    features, weight = torch.randn(2, 3, 8, 12, dtype=torch.float64), torch.randn(4, 3, 3, 3, dtype=torch.float64)
    for grid in grids(step):
        traced = TracedGrid(step, torch.tensor(grid.offset))
        torch.testing.assert_close(traced.select(features), grid.select(features))
        torch.testing.assert_close(traced.convolve(features, weight), grid.convolve(features, weight))
        assert traced.count == grid.count
    whole = draw_traced_grid((9, 7), (2, 2), torch.device("cpu"))
    odd = torch.randn(1, 1, 9, 7)
    torch.testing.assert_close(whole.select(odd), odd)


def test_draws_are_even() -> None:
    drawn = [draw_grid((8, 8), (2, 3)).offset for _ in range(3000)]
    for offset in itertools.product(range(2), range(3)):
        assert 400 < drawn.count(offset) < 600
    tile = [draw_tile((8, 12), (4, 6), (2, 2)).rows for _ in range(1000)]
    assert 400 < tile.count((0, 4)) < 600


def test_shares() -> None:
    assert [grid_strides(share) for share in (1.0, 1 / 2, 1 / 3, 0.25, 1 / 6, 1 / 9)] == [
        (1, 1), (1, 2), (1, 3), (2, 2), (2, 3), (3, 3),
    ]  # fmt: skip
    for share in (0.0, -1.0, 0.3, 2.0, float("nan")):
        with pytest.raises(ValueError, match=r"sampling: expected 1, 1/2"):
            grid_strides(share)


def step(loss: SCFDLoss, student: Pair[list[Tensor]], teacher: Pair[list[Tensor]]) -> list[Tensor]:
    """The value, and the gradient of every input and parameter."""
    total = loss(student, teacher).total
    leaves = [*student.rgb, *student.tir, *loss.parameters()]
    return [total.detach(), *torch.autograd.grad(total, leaves)]


@pytest.mark.parametrize(("shared", "reduction"), [(False, "sum"), (True, "sum"), (False, "mean")])
@pytest.mark.parametrize("size", [(8, 12), (10, 6), (9, 7)], ids=["tile", "uneven tile", "grid"])
def test_the_estimate_is_unbiased_in_value_and_gradient(
    size: Size, shared: bool, reduction: Reduction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean over all draws, each as likely as the others, is the whole loss; batch norm statistics given."""
    options: dict[str, Any] = {"interaction": ("sem", "cem"), "shared": shared, "reduction": reduction}
    exact = SCFDLoss((2, 3), (3, 4), mid_channels=3, **options).double()
    sampled = SCFDLoss((2, 3), (3, 4), mid_channels=3, sampling=0.25, **options)
    sampled.double().load_state_dict(exact.state_dict())
    for loss in (exact, sampled):
        loss.train()
        loss.chains.eval()
    student = pyramids((2, 3), size, dtype=torch.float64, requires_grad=True)
    teacher = pyramids((3, 4), size, dtype=torch.float64)
    deeper = size[0] // 2, size[1] // 2
    shallow: list[Positions] = [*grids((2, 2))] if size == (9, 7) else [*tiles(size, deeper, (2, 2))]
    steps_taken = []
    for positions in itertools.product(shallow, grids((2, 2))):
        monkeypatch.setattr(sampled, "_draw", lambda _, positions=positions: list(positions))
        steps_taken.append(step(sampled, student, teacher))
    averages = [torch.stack(values).mean(dim=0) for values in zip(*steps_taken, strict=True)]
    for found, expected in zip(averages, step(exact, student, teacher), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-13)
    assert len({values[0].item() for values in steps_taken}) == len(steps_taken)


def test_positions_are_drawn_anew_in_training_and_not_at_all_in_evaluation() -> None:
    loss = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem"), sampling=0.25)
    student, teacher = pyramids((2, 3)), pyramids((3, 4))
    assert len({loss(student, teacher).total.item() for _ in range(20)}) > 5
    loss.eval()
    assert len({loss(student, teacher).total.item() for _ in range(5)}) == 1
    exact = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem")).eval()
    exact.load_state_dict(loss.state_dict())
    torch.testing.assert_close(loss(student, teacher).total, exact(student, teacher).total)


def test_a_tile_needs_a_level_that_divides(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = []
    draw = SCFDLoss._draw
    monkeypatch.setattr(scfd.SCFDLoss, "_draw", lambda *given: kinds.append(draw(*given)) or kinds[-1])
    loss = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem"), sampling=0.25)
    for size in ((8, 12), (9, 7)):
        loss(pyramids((2, 3), size), pyramids((3, 4), size))
    assert [[type(positions) for positions in drawn] for drawn in kinds] == [[Tile, Grid], [Grid, Grid]]


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_step_draws_too(dynamic: bool) -> None:
    loss = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem"), sampling=0.25).double()
    loss.chains.eval()
    student, teacher = (pyramids(c, (8, 12), dtype=torch.float64, requires_grad=c[0] == 2) for c in ((2, 3), (3, 4)))
    compiled = torch.compile(loss, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    values = []
    for _ in range(12):
        total = compiled(student, teacher).total
        total.backward()
        values.append(total.item())
    exact = loss.eval()(student, teacher).total.item()
    assert len(set(values)) > 3
    assert min(values) < exact < max(values)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 2), (4, 6), (1, 9)])
@pytest.mark.parametrize("share", [0.5, 0.25, 1 / 16])
def test_small_maps_and_few_samples_are_sampled_as_far_as_they_go(size: Size, share: float) -> None:
    loss = SCFDLoss((2, 2), (3, 3), interaction=("sem", "cem"), sampling=share)
    batch = 2 if size == (1, 1) else 1  # batch norm itself needs two values
    maps = [[torch.randn(batch, c, *size, requires_grad=c == 2) for _ in range(4)] for c in (2, 3)]
    student, teacher = (Pair(four[:2], four[2:]) for four in maps)
    for _ in range(10):
        total = loss(student, teacher).total
        total.backward()
        assert total.isfinite()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 1e3])
def test_half_precision_is_finite(dtype: torch.dtype, scale: float) -> None:
    loss = SCFDLoss((2, 3), (3, 4), interaction=("sem", "cem"), sampling=0.25)
    student, teacher = pyramids((2, 3), requires_grad=True), pyramids((3, 4))
    student, teacher = (Pair(*([x * scale for x in levels] for levels in pair)) for pair in (student, teacher))
    with torch.autocast("cpu", dtype):
        total = 1e-3 * loss(student, teacher).total  # CMD's alpha
    assert total.dtype == torch.float32
    assert total.isfinite()
    gradients = torch.autograd.grad(total * 2**-12, [*student.rgb, *student.tir, *loss.parameters()])
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 5), (8, 8)])
def test_the_fewest_positions_are_some(size: Size) -> None:
    loss = SCFDLoss((2,), (3,), interaction=("add",), sampling=1 / MAX_SUBSAMPLING)
    student, teacher = (Pair([torch.randn(4, c, *size)], [torch.randn(4, c, *size)]) for c in (2, 3))
    total = loss(student, teacher).total
    assert bool(total.isfinite())
    assert total > 0


@pytest.mark.parametrize(
    "sampling", [1e-40, 1 / (MAX_SUBSAMPLING + 1), 0.0, -0.25, 1.5, float("nan"), 10**23, "1/4", None]
)
def test_a_share_out_of_range_is_refused_at_once(sampling: Any) -> None:
    with pytest.raises(ValueError, match="SCFDLoss: sampling: expected"):
        SCFDLoss((2,), (3,), interaction=("add",), sampling=sampling)
