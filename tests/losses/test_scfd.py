import numpy as np
import pytest
import torch
from helpers import pyramids
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mmdistill import NotFiniteError, Pair, SCFDLoss, ShapeError
from mmdistill._numerics import Reduction

STUDENT, TEACHER = (2, 3, 4, 5), (3, 4, 5, 6)


def features(batch: int = 2) -> tuple[Pair[list[Tensor]], Pair[list[Tensor]]]:
    return (
        pyramids(STUDENT, (16, 24), batch, dtype=torch.float64),
        pyramids(TEACHER, (16, 24), batch, dtype=torch.float64),
    )


def target(kind: str, rgb: np.ndarray, tir: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if kind == "sem":
        return rgb * tir + rgb - tir, rgb * tir + tir - rgb
    common = rgb * tir + rgb + tir if kind == "cem" else rgb + tir
    return common, common


@pytest.mark.parametrize(
    "interaction",
    [("sem", "sem", "sem", "cem"), ("add",) * 4, ("sem",) * 4, ("cem",) * 4, ("cem", "add", "sem", "sem")],
)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_value_is_equation_three(interaction: tuple[str, ...], reduction: Reduction) -> None:
    options = {} if reduction == "sum" else {"reduction": reduction}
    loss = SCFDLoss(STUDENT, TEACHER, mid_channels=4, interaction=interaction, **options).double().eval()  # type: ignore[arg-type]
    student, teacher = features()
    aligned = Pair(loss.chains["rgb"](student.rgb), loss.chains["tir"](student.tir))
    expected = {"specific": 0.0, "common": 0.0}
    for level, kind in enumerate(interaction):
        wanted = target(kind, teacher.rgb[level].numpy(), teacher.tir[level].numpy())
        for wants, gets in zip(wanted, aligned, strict=True):
            squares = (wants - gets[level].detach().numpy()) ** 2
            samples = squares.sum(axis=(1, 2, 3)) if reduction == "sum" else squares.mean(axis=(1, 2, 3))
            expected["specific" if kind == "sem" else "common"] += float(samples.mean())
    terms = loss(student, teacher)
    assert set(terms) == {name for name, value in expected.items() if value}
    for name in terms:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-12)
    assert terms.total.item() == pytest.approx(sum(expected.values()), rel=1e-12)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(2, 6), st.integers(2, 6), st.booleans())
def test_a_sum_is_the_mean_times_the_size_of_the_map(
    batch: int, channels: int, height: int, width: int, shared: bool
) -> None:
    loss = SCFDLoss((2,), (channels,), interaction=("sem",), shared=shared).double().eval()
    student, teacher = (pyramids((n,), (height, width), batch, dtype=torch.float64) for n in (2, channels))
    total = loss(student, teacher).total.item()
    loss.reduction = "mean"
    assert total == pytest.approx(loss(student, teacher).total.item() * channels * height * width, rel=1e-12)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_the_batch_size_changes_no_reduction(reduction: Reduction) -> None:
    loss = SCFDLoss(STUDENT, TEACHER, mid_channels=4, reduction=reduction).double().eval()
    student, teacher = features()
    twice = [Pair(*([torch.cat([x, x]) for x in levels] for levels in pair)) for pair in (student, teacher)]
    torch.testing.assert_close(loss(*twice).total, loss(student, teacher).total)


def test_a_shared_chain_serves_both_modalities() -> None:
    shared = SCFDLoss(STUDENT, TEACHER, mid_channels=4, shared=True).double().eval()
    separate = SCFDLoss(STUDENT, TEACHER, mid_channels=4).double().eval()
    for chain in separate.chains.values():
        chain.load_state_dict(shared.chains["both"].state_dict())
    student, teacher = features()
    torch.testing.assert_close(shared(student, teacher).total, separate(student, teacher).total)
    count = [sum(p.numel() for p in loss.parameters()) for loss in (shared, separate)]
    assert 2 * count[0] == count[1]


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_gradients_are_right_and_the_teacher_gets_none(reduction: Reduction) -> None:
    loss = SCFDLoss((2, 2), (2, 3), mid_channels=2, interaction=("sem", "cem"), reduction=reduction).double().eval()
    student = pyramids((2, 2), (4, 4), 2, dtype=torch.float64, requires_grad=True)
    teacher = pyramids((2, 3), (4, 4), 2, dtype=torch.float64, requires_grad=True)
    leaves = [*student.rgb, *student.tir]
    assert torch.autograd.gradcheck(lambda *x: loss(Pair(x[:2], x[2:]), teacher).total, leaves)
    loss(student, teacher).total.backward()
    assert all(x.grad is not None and x.grad.abs().sum() > 0 for x in leaves)
    assert all(x.grad is None for x in [*teacher.rgb, *teacher.tir])
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())


def test_mid_channels_follow_the_students_deepest_level() -> None:
    assert SCFDLoss((64, 64, 128, 256), (64, 256, 512, 1024)).chains["rgb"].levels[0].mid_channels == 256


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_reduction_is_in_float32(dtype: torch.dtype) -> None:
    """The sum of squares of 64 x 64 x 64 values of 30 is 2.4e8, which is infinite in float16."""
    loss = SCFDLoss((4,), (64,), interaction=("add",)).eval()
    student = Pair([torch.zeros(1, 4, 64, 64)], [torch.zeros(1, 4, 64, 64)])
    teacher = Pair([torch.full((1, 64, 64, 64), 30.0, dtype=dtype)], [torch.zeros(1, 64, 64, 64, dtype=dtype)])
    total = loss(student, teacher).total
    assert total.dtype == torch.float32
    assert total.item() == pytest.approx(2 * 900 * 64**3, rel=1e-3)
    loss.reduction = "mean"
    assert loss(student, teacher).total.item() == pytest.approx(2 * 900, rel=1e-3)


def test_wrong_inputs_are_named() -> None:
    loss = SCFDLoss(STUDENT, TEACHER).double()
    student, teacher = features()
    smaller = pyramids(TEACHER, (16, 20), 2, dtype=torch.float64)
    with pytest.raises(ShapeError, match="SCFDLoss: teacher level 1: width: expected 24 as student, got 20"):
        loss(student, smaller)
    with pytest.raises(ShapeError, match="SCFDLoss: student rgb: levels: expected 4, got 3"):
        loss(Pair(student.rgb[:3], student.tir[:3]), teacher)
    with pytest.raises(ShapeError, match="SCFDLoss: teacher tir level 2: channels: expected 4, got 3"):
        loss(student, Pair(teacher.rgb, [teacher.tir[0]] * 4))
    with pytest.raises(ShapeError, match="SCFDLoss: teacher level 1: batch: expected 2 as student, got 3"):
        loss(student, features(3)[1])
    with pytest.raises(ShapeError, match="SCFDLoss: interaction: levels: expected 3, one for each level, such as"):
        SCFDLoss((2, 3, 4), (2, 3, 4))
    with pytest.raises(ValueError, match=r"SCFDLoss: interaction\[\d\]: expected one of sem, cem, add"):
        SCFDLoss((2,), (2,), interaction=("mul",))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SCFDLoss: reduction: expected one of sum, mean, got 'none'"):
        SCFDLoss((2,), (2,), interaction=("sem",), reduction="none")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_names_the_map_that_holds_it(value: float) -> None:
    loss = SCFDLoss(STUDENT, TEACHER).double()
    student, teacher = features()
    teacher.tir[2][0, 0, 0, 0] = value
    with pytest.raises(
        NotFiniteError, match="SCFDLoss: teacher tir level 3: values: expected finite, got 1 NaN or infinite"
    ):
        loss(student, teacher)
    loss.check_values = False
    assert not loss(student, teacher).total.isfinite()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_features_meet_a_float32_loss_outside_autocast(dtype: torch.dtype) -> None:
    loss = SCFDLoss(STUDENT, TEACHER, mid_channels=4).eval()
    student, teacher = (Pair(*([x.to(dtype) for x in levels] for levels in pair)) for pair in features())
    wide = [Pair(*([x.float() for x in levels] for levels in pair)) for pair in (student, teacher)]
    torch.testing.assert_close(loss(student, teacher).total, loss(*wide).total)
