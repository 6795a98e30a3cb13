"""A mask says which positions count: the mean is each sample's own over these, and the mean of the samples'."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from helpers import pyramids
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill import (
    CMDLoss,
    FusedPaths,
    HFRDLoss,
    MPSDLoss,
    Pair,
    SCFDLoss,
    ShapeError,
    TCLDistiller,
    Terms,
    UnusedInputWarning,
)
from mmdistill._masks import Mask
from mmdistill._numerics import Reduction, squared_error
from mmdistill._subsampling import Grid, Positions, draw_tile
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss
from mmdistill.losses.review_kd import hierarchical_context_error

BATCH, CHANNELS, HEIGHT, WIDTH = 3, 4, 5, 6
Maps = Mapping[str, Tensor]
Call = Callable[[Maps, Any], Terms]


def levels(*channels: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return channels, channels


def fused(x: Maps) -> list[FusedPaths]:
    weights = torch.tensor([[0.2, 0.5, 0.3]]).expand(x["student"].shape[0], 3)
    return [FusedPaths(x["student"], torch.stack([x["student"], -x["student"], 2 * x["teacher"]]), weights)]


def one_channel(x: Maps) -> list[Tensor]:
    return [x["student"][:, 0], x["teacher"][:, 0], x["teacher"][:, 1].sigmoid()]


# Where no convolution looks at neighbors, the positions that count may be taken out and laid in a row.
POSITIONWISE: dict[str, Call] = {
    "FitNetsLoss": lambda x, m: FitNetsLoss(*levels(CHANNELS))([x["student"]], [x["teacher"]], mask=m),
    "MD": lambda x, m: ModalityDistillationLoss(*levels(CHANNELS))([x["student"]], [x["teacher"]], mask=m),
    "MD-1.5": lambda x, m: ModalityDistillationLoss(*levels(CHANNELS), exponent=1.5)(
        [x["student"]], [x["teacher"]], mask=m
    ),
    "MPSDLoss": lambda x, m: MPSDLoss(*levels(CHANNELS))(fused(x), [x["teacher"]], mask=m),
    "HFRDLoss": lambda x, m: HFRDLoss()(*one_channel(x), mask=m),
    "HFRDLoss-hinge": lambda x, m: HFRDLoss(residual="hinge")(*one_channel(x), mask=m),
    "HFRDLoss-weighed-label": lambda x, m: HFRDLoss(weigh_label=True)(*one_channel(x), mask=m),
    "KDLoss": lambda x, m: KDLoss(over="response")(*one_channel(x)[:2], mask=m),
    "KDLoss-peaks": lambda x, m: KDLoss(over="response", temperature=0.1)(*one_channel(x)[:2], mask=m),
    # Filters of 1x1: one iterate of each sequence; frames are one.
    "TCLDistiller": lambda x, m: TCLDistiller(mu=0)(
        x["student"][:, :, :1, :1].detach()[None] * 0 + 1,
        x["student"][None],
        x["teacher"][None, :, 0],
        mask=None if m is None else m[None, :, 0],
    ),
}
EVERYWHERE: dict[str, Call] = {
    **POSITIONWISE,
    "ReviewKDLoss": lambda x, m: seeded(lambda: ReviewKDLoss(*levels(CHANNELS))).eval()(
        [x["student"]], [x["teacher"]], mask=m
    ),
    "SCFDLoss": lambda x, m: seeded(lambda: SCFDLoss(*levels(CHANNELS), interaction=("sem",))).eval()(
        Pair([x["student"]], [2 * x["student"]]), Pair([x["teacher"]], [x["teacher"] + 1]), mask=m
    ),
}
over_positionwise = pytest.mark.parametrize("call", POSITIONWISE.values(), ids=POSITIONWISE.keys())
over_all = pytest.mark.parametrize("call", EVERYWHERE.values(), ids=EVERYWHERE.keys())


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build().double()


def maps(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (BATCH, CHANNELS, HEIGHT, WIDTH)
    drawn = {name: torch.randn(shape, generator=generator).double() for name in ("student", "teacher")}
    drawn["student"].requires_grad_()
    return drawn


def some_positions(seed: int = 0, share: float = 0.5) -> Tensor:
    mask = torch.rand(BATCH, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) < share
    mask[:, :, 1, 2:4] = True
    return mask


def laid_in_a_row(x: Maps, mask: Tensor, sample: int) -> dict[str, Tensor]:
    """One sample's positions that count, as a map of one row."""
    return {name: values[sample][:, mask[sample, 0]][None, :, None] for name, values in x.items()}


@over_positionwise
@settings(max_examples=5, deadline=None)
@given(st.integers(0, 99))
def test_it_is_the_loss_of_the_positions_that_count(call: Call, seed: int) -> None:
    x, mask = maps(seed), some_positions(seed)
    alone = [call(laid_in_a_row(x, mask, sample), None) for sample in range(BATCH)]
    terms = call(x, mask)
    for name, value in terms.items():
        torch.testing.assert_close(value, torch.stack([each[name] for each in alone]).mean(), rtol=1e-12, atol=1e-14)
    expected = torch.autograd.grad(torch.stack([each.total for each in alone]).mean(), x["student"])
    torch.testing.assert_close(torch.autograd.grad(terms.total, x["student"]), expected, rtol=1e-10, atol=1e-13)


@over_all
def test_a_mask_that_is_true_everywhere_changes_nothing(call: Call) -> None:
    x = maps()
    expected, got = call(x, None), call(x, torch.ones(BATCH, 1, HEIGHT, WIDTH, dtype=torch.bool))
    torch.testing.assert_close(dict(got), dict(expected), rtol=1e-13, atol=1e-15)
    gradients = [torch.autograd.grad(terms.total, x["student"]) for terms in (got, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-11, atol=1e-14)


@over_all
@pytest.mark.parametrize("garbage", [1e6, -1e200], ids=["large", "square-overflows"])
def test_what_stands_elsewhere_in_the_teacher_reaches_neither_value_nor_gradient(call: Call, garbage: float) -> None:
    x, mask = maps(), some_positions()
    spoilt = {**x, "teacher": torch.where(mask, x["teacher"], garbage)}
    for terms in zip(call(x, mask).values(), call(spoilt, mask).values(), strict=True):
        assert torch.equal(*terms)
    gradients = [torch.autograd.grad(call(given, mask).total, x["student"])[0] for given in (x, spoilt)]
    assert torch.equal(*gradients)


@over_positionwise
def test_what_stands_elsewhere_in_the_student_reaches_neither_and_learns_nothing(call: Call) -> None:
    x, mask = maps(), some_positions()
    outside = ~mask.expand_as(x["student"])
    spoilt = x["student"].detach().masked_fill(outside, 1e150).requires_grad_()
    terms = call({**x, "student": spoilt}, mask)
    torch.testing.assert_close(terms.total, call(x, mask).total, rtol=1e-13, atol=0)
    [gradient] = torch.autograd.grad(terms.total, spoilt)
    assert not gradient[outside].any()
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_scfd_is_its_equation_over_the_positions_that_count(reduction: Reduction) -> None:
    student, teacher = (pyramids(channels, (8, 12), dtype=torch.float64) for channels in ((2, 3), (4, 5)))
    loss = seeded(lambda: SCFDLoss((2, 3), (4, 5), interaction=("sem", "cem"), reduction=reduction)).eval()
    assert isinstance(loss, SCFDLoss)
    masks = Pair(*([torch.rand(2, 1, 8 >> n, 12 >> n) < 0.6 for n in (0, 1)] for _ in Pair._fields))
    terms = loss(student, teacher, mask=masks)
    aligned = Pair(*(loss.chains[name](levels) for name, levels in zip(Pair._fields, student, strict=True)))
    expected = []
    for level in (0, 1):
        rgb, tir = (side[level].numpy() for side in teacher)
        targets = (rgb * tir + rgb - tir, rgb * tir + tir - rgb) if level == 0 else (rgb * tir + rgb + tir,) * 2
        total = 0.0
        for target, maps_of, masks_of in zip(targets, aligned, masks, strict=True):
            error = (target - maps_of[level].detach().numpy()) ** 2
            counted = masks_of[level].numpy()
            samples = [error[b][:, counted[b, 0]] for b in range(2)]
            total += np.mean([x.sum() if reduction == "sum" else x.mean() for x in samples])
        expected.append(total)
    assert [float(value.detach()) for value in terms.values()] == pytest.approx(expected, rel=1e-12)
    both = loss(student, teacher, mask=masks.rgb)
    assert torch.equal(both.total, loss(student, teacher, mask=Pair(masks.rgb, masks.rgb)).total)


def pooled_by_hand(values: np.ndarray, counted: np.ndarray, cells: tuple[int, int]) -> float:
    """One sample's mean squared cell average, over the cells that have positions that count."""
    _, height, width = values.shape
    squares = []
    for row, column in np.ndindex(*cells):
        rows = slice(row * height // cells[0], -(-(row + 1) * height // cells[0]))
        columns = slice(column * width // cells[1], -(-(column + 1) * width // cells[1]))
        inside = counted[rows, columns]
        if inside.any():
            squares.append(values[:, rows, columns][:, inside].mean(axis=1) ** 2)
    return float(np.mean(squares))


@pytest.mark.parametrize("size", [(8, 8), (5, 7), (3, 9), (1, 6), (4, 4)])
def test_review_pools_the_positions_that_count(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 2, 3, *size, dtype=torch.float64)
    counted = torch.rand(2, 1, *size) < 0.3
    counted[..., 0, 0] = True
    difference, positions = (student - teacher).numpy(), counted[:, 0].numpy()
    grids = [size] + [(min(n, size[0]), min(n, size[1])) for n in (4, 2, 1) if n < max(size)]
    weights = [0.5**n for n in range(len(grids))]
    samples = [
        sum(w * pooled_by_hand(difference[b], positions[b], cells) for w, cells in zip(weights, grids, strict=True))
        for b in range(2)
    ]
    got = hierarchical_context_error(student, teacher, Mask.of(counted))
    assert float(got) == pytest.approx(np.mean(samples) / sum(weights), rel=1e-12)


def choices(size: tuple[int, int]) -> list[list[Positions]]:
    steps = [(2, 2), (1, 3), (2, 3)]
    grids: list[list[Positions]] = [[Grid(s, offset) for offset in itertools.product(*map(range, s))] for s in steps]
    tiles = {draw_tile(size, (size[0] // 2, size[1] // 2), (2, 2)) for _ in range(200)}
    return [*grids, [*tiles]]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("size", [(6, 8), (6, 10)])
def test_sampled_positions_that_count_estimate_the_masked_error_without_bias(
    size: tuple[int, int], reduction: Reduction
) -> None:
    first, second = torch.randn(2, 3, 2, *size, dtype=torch.float64)
    mask = Mask.of(torch.rand(3, 1, *size) < 0.4)
    expected = squared_error(first, second, mask, reduction=reduction)
    for kind in choices(size):
        draws = [
            where.count * squared_error(where.select(first), where.select(second), mask.at(where), reduction=reduction)
            for where in kind
        ]
        torch.testing.assert_close(torch.stack(draws).mean(), expected, rtol=1e-12, atol=0)


def test_scfd_samples_with_a_mask() -> None:
    student, teacher = (pyramids(channels, (16, 16), dtype=torch.float64) for channels in ((2, 3), (4, 5)))
    loss = seeded(lambda: SCFDLoss((2, 3), (4, 5), interaction=("sem", "cem"), sampling=1 / 4)).train()
    for part in loss.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()  # an estimate without bias for given statistics
    masks = [torch.rand(2, 1, 16 >> n, 16 >> n) < 0.5 for n in (0, 1)]
    torch.manual_seed(0)
    draws = torch.stack([loss(student, teacher, mask=masks).total.detach() for _ in range(300)])
    expected = loss.eval()(student, teacher, mask=masks).total.detach()
    assert abs(float(draws.mean() - expected)) < 4 * float(draws.std()) / 300**0.5
    assert float(draws.std()) > 0


def test_one_mask_serves_all_levels_of_one_size() -> None:
    loss, mask = FitNetsLoss(*levels(CHANNELS, CHANNELS)), some_positions()
    x, y = maps(), maps(1)
    pyramid, target = [x["student"], y["student"]], [x["teacher"], y["teacher"]]
    assert torch.equal(loss(pyramid, target, mask=mask).total, loss(pyramid, target, mask=[mask, mask]).total)
    alone = [FitNetsLoss(*levels(CHANNELS))([a], [b]).total for a, b in zip(pyramid, target, strict=True)]
    first = FitNetsLoss(*levels(CHANNELS))(pyramid[:1], target[:1], mask=mask).total
    torch.testing.assert_close(loss(pyramid, target, mask=[mask, None]).total, first + alone[1])


def test_a_response_takes_a_mask_of_its_own_shape_too() -> None:
    x, mask = maps(), some_positions()
    student, teacher, label = one_channel(x)
    expected = HFRDLoss()(student, teacher, label, mask=mask).total
    assert torch.equal(HFRDLoss()(student, teacher, label, mask=mask[:, 0]).total, expected)
    four_axes = [values[:, None] for values in (student, teacher, label)]
    assert torch.equal(HFRDLoss()(*four_axes, mask=mask).total, expected)
    frames = [values[None] for values in (student, teacher, label)]
    assert torch.equal(HFRDLoss()(*frames, mask=mask[None, :, 0]).total, expected)
    with pytest.raises(ShapeError, match=r"HFRDLoss: mask: shape: expected \(1, 3, 5, 6\) as student_response"):
        HFRDLoss()(*frames, mask=mask)


@over_all
def test_a_batch_without_a_position_is_refused(call: Call) -> None:
    x, empty = maps(), torch.zeros(BATCH, 1, HEIGHT, WIDTH, dtype=torch.bool)
    with pytest.raises(ShapeError, match=r"mask.*: values: expected at least one position that counts, got none"):
        call(x, empty)


@over_all
def test_a_sample_without_a_position_is_zero_and_keeps_its_place(call: Call) -> None:
    x, mask = maps(), some_positions()
    mask[1] = False
    if call in (EVERYWHERE["KDLoss"], EVERYWHERE["KDLoss-peaks"]):
        with pytest.raises(ShapeError, match="KDLoss: mask of one map: values"):
            call(x, mask)
        return
    rest = torch.tensor([0, 2])
    expected = call({name: values[rest] for name, values in x.items()}, mask[rest])
    got = call(x, mask)
    for name, value in got.items():
        torch.testing.assert_close(value, expected[name] * 2 / 3)


def test_where_values_are_not_read_no_position_is_zero_without_nan() -> None:
    x, empty = maps(), torch.zeros(BATCH, 1, HEIGHT, WIDTH, dtype=torch.bool)
    unread = {"check_values": False}
    level = [x["student"]], [x["teacher"]]
    terms = [
        FitNetsLoss(*levels(CHANNELS), **unread)(*level, mask=empty),
        ReviewKDLoss(*levels(CHANNELS), **unread).double().eval()(*level, mask=empty),
        ModalityDistillationLoss(*levels(CHANNELS), **unread)(*level, mask=empty),
        MPSDLoss(*levels(CHANNELS), **unread)(fused(x), level[1], mask=empty),
        HFRDLoss(**unread)(*one_channel(x), mask=empty),
        KDLoss(over="response", **unread)(*one_channel(x)[:2], mask=empty),
    ]
    for each in terms:
        assert float(each.total.detach()) == 0
        [gradient] = torch.autograd.grad(each.total, x["student"], materialize_grads=True)
        assert not gradient.any()


def test_cmd_hands_each_part_its_mask() -> None:
    parts = SCFDLoss((3,), (5,), interaction=("sem",)).eval(), MPSDLoss((3,), (5,)), HFRDLoss()
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 4, 6)
    response, target, label = torch.rand(3, 2, 4, 6)
    weights = torch.tensor([[0.2, 0.5, 0.3]] * 2)
    paths = [FusedPaths(student, torch.stack([student, -student, 2 * student]), weights)]
    feature_mask, fused_mask, response_mask = torch.rand(3, 2, 1, 4, 6) < 0.6
    inputs = {
        "student_features": Pair([student], [student + 1]),
        "teacher_features": Pair([teacher], [teacher + 1]),
        "student_fused": paths,
        "teacher_fused": [teacher],
        "student_response": response,
        "teacher_response": target,
        "gaussian": label,
    }

    def expected(scfd: Tensor, mpsd: Tensor, hfrd: Tensor) -> Tensor:
        features = parts[0](inputs["student_features"], inputs["teacher_features"], mask=scfd).total
        fusion = parts[1](paths, [teacher], mask=mpsd).total
        return 1e-3 * (features + fusion) + 100 * parts[2](response, target, label, mask=hfrd).total

    cmd = CMDLoss(*parts, alpha=1e-3, beta=100.0)
    each = {"feature_mask": feature_mask, "fused_mask": [fused_mask], "response_mask": response_mask}
    torch.testing.assert_close(cmd(**inputs, **each).total, expected(feature_mask, fused_mask, response_mask))
    got = cmd(**inputs, mask=feature_mask, response_mask=response_mask).total
    torch.testing.assert_close(got, expected(feature_mask, feature_mask, response_mask))
    with pytest.warns(UnusedInputWarning, match="CMDLoss: fused_mask: .* mpsd is None"):
        CMDLoss(hfrd=HFRDLoss())(
            student_response=response, teacher_response=target, gaussian=label, fused_mask=[fused_mask]
        )
