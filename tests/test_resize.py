import itertools
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mmdistill import ShapeError
from mmdistill.resize import Interpolation, resize_levels, resize_like

MODES = cast("tuple[Interpolation, ...]", ("bilinear", "nearest"))
SIZES = ((8, 12), (4, 17), (16, 5), (1, 1), (3, 3))


def shares(length: int, target: int, mode: str) -> np.ndarray:
    """How much each of ``length`` positions gives to each of ``target`` ones along one axis, ``(target, length)``."""
    matrix = np.zeros((target, length))
    for i in range(target):
        if target <= length:
            cell = slice(i * length // target, -(-(i + 1) * length // target))
            matrix[i, cell] = 1 / (cell.stop - cell.start)
        elif mode == "nearest":
            matrix[i, i * length // target] = 1
        else:
            center = max((i + 0.5) * length / target - 0.5, 0)
            low = int(center)
            matrix[i, low] += 1 - (center - low)
            matrix[i, min(low + 1, length - 1)] += center - low
    return matrix


size = st.tuples(st.integers(1, 12), st.integers(1, 12))


@settings(max_examples=80, deadline=None)
@given(size, size, st.sampled_from(MODES), st.integers(0, 100))
def test_each_axis_is_averaged_or_interpolated_on_its_own(
    source: tuple[int, int], target: tuple[int, int], mode: Interpolation, seed: int
) -> None:
    torch.manual_seed(seed)
    features = torch.randn(2, 3, *source, dtype=torch.float64)
    rows, columns = (shares(a, b, mode) for a, b in zip(source, target, strict=True))
    expected = np.einsum("yh,bchw,xw->bcyx", rows, features.numpy(), columns)
    got = resize_like(features, torch.empty(1, 7, *target), mode)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_a_position_on_its_own_is_not_skipped_when_shrinking() -> None:
    """Plain interpolation by 4 reads 2 of every 4 positions and may miss the only one that says something."""
    features = torch.zeros(1, 1, 8, 8)
    features[..., 0, 0] = 16
    assert resize_like(features, torch.zeros(1, 1, 2, 2)).flatten().tolist() == [1, 0, 0, 0]


def test_the_right_size_is_left_alone() -> None:
    features = torch.randn(2, 3, 4, 5)
    assert resize_like(features, torch.zeros(1, 1, 4, 5)) is features


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", [(2, 3), (9, 7), (2, 9), (4, 6)])
def test_gradients_are_right(mode: Interpolation, target: tuple[int, int]) -> None:
    features = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    like = torch.zeros(1, 1, *target, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: resize_like(x, like, mode), features)
    resize_like(features, like, mode).sum().backward()
    assert features.grad is not None
    assert (features.grad > 0).all()
    assert like.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", [(2, 3), (16, 24), (2, 24)])
def test_half_precision_keeps_its_dtype_and_is_finite(dtype: torch.dtype, target: tuple[int, int]) -> None:
    features = torch.full((1, 2, 8, 12), 6e4, dtype=dtype)
    resized = resize_like(features, torch.zeros(1, 1, *target))
    assert resized.dtype == dtype
    assert torch.equal(resized, torch.full((1, 2, *target), 6e4, dtype=dtype))


def test_levels_are_resized_one_by_one() -> None:
    features = [torch.randn(2, 3, 8, 12), torch.randn(2, 4, 4, 6)]
    like = [torch.zeros(1, 1, 4, 6), torch.zeros(1, 1, 5, 3)]
    resized = resize_levels(features, like, "nearest")
    assert [tuple(level.shape) for level in resized] == [(2, 3, 4, 6), (2, 4, 5, 3)]
    assert all(torch.equal(a, resize_like(b, c, "nearest")) for a, b, c in zip(resized, features, like, strict=True))


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.filterwarnings("ignore")  # PyTorch's own deprecations while it traces
@pytest.mark.slow
def test_one_graph(dynamic: bool) -> None:
    torch.compiler.reset()
    compiled = torch.compile(resize_like, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for source, target in itertools.islice(itertools.permutations(SIZES, 2), 0, None, 3):
        features, like = torch.randn(2, 3, *source), torch.zeros(1, 1, *target)
        torch.testing.assert_close(compiled(features, like), resize_like(features, like))


class Resize(nn.Module):
    def forward(self, features: Tensor, like: Tensor) -> Tensor:
        return resize_like(features, like)


@pytest.mark.parametrize("target", [(2, 3), (3, 5), (16, 17), (4, 17)])
@pytest.mark.filterwarnings("ignore")  # PyTorch's own deprecations while it traces
@pytest.mark.slow
def test_onnx_agrees(target: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    inputs = (torch.randn(2, 3, 8, 12), torch.zeros(1, 1, *target))
    torch.onnx.export(Resize(), inputs, tmp_path / "resize.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "resize.onnx", providers=["CPUExecutionProvider"])
    given = {x.name: values.numpy() for x, values in zip(session.get_inputs(), inputs, strict=False)}
    np.testing.assert_allclose(session.run(None, given)[0], resize_like(*inputs).numpy(), rtol=1e-4, atol=1e-5)


def test_wrong_inputs_are_named() -> None:
    features = torch.zeros(2, 3, 4, 5)
    with pytest.raises(ShapeError, match=r"resize_like: features: axes: expected 4 \(B, C, H, W\)"):
        resize_like(features[0], features)
    with pytest.raises(ShapeError, match="resize_like: like: height: expected at least 1, got 0"):
        resize_like(features, features[:, :, :0])
    with pytest.raises(ShapeError, match="resize_levels: features: levels: expected 2, got 1"):
        resize_levels([features], [features] * 2)
    with pytest.raises(ShapeError, match="resize_levels: like: type: expected a sequence of maps"):
        resize_levels([features], features)
    with pytest.raises(ValueError, match=r"mode: expected one of bilinear, nearest, got 'area'"):
        resize_like(features, features, "area")  # type: ignore[arg-type]
