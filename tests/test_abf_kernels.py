import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import pyramid, pyramids
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import SCFDLoss, _abf_kernels
from mmdistill._abf_kernels import abf_attention
from mmdistill.losses import ReviewKDLoss

# Forward mode loads formulas by way of what PyTorch itself calls deprecated.
FORWARD_MODE = pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")


def random_inputs(size: tuple[int, int], deeper: tuple[int, int], dtype: torch.dtype) -> list[torch.Tensor]:
    shapes = [(2, 5, *size), (2, 5, *deeper), (2, 10, 1, 1), (2,)]
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


def by_hand(own: np.ndarray, deeper: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Knowledge Review's attention with the concatenation and the resized map made in full."""
    rows = np.arange(own.shape[2]) * deeper.shape[2] // own.shape[2]
    columns = np.arange(own.shape[3]) * deeper.shape[3] // own.shape[3]
    resized = deeper[:, :, rows][:, :, :, columns]
    scores = np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], np.concatenate([own, resized], axis=1))
    share = 1 / (1 + np.exp(-(scores + bias[:, None, None])))
    return own * share[:, :1] + resized * share[:, 1:]


@settings(max_examples=30)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2**12, 2**20]))
def test_value_is_the_published_attention(h: int, w: int, height: int, width: int, block_bytes: int) -> None:
    inputs = random_inputs((height, width), (h, w), torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_abf_kernels, "BLOCK_BYTES", block_bytes)
        found = abf_attention(*inputs).detach().numpy()
    np.testing.assert_allclose(found, by_hand(*(x.detach().numpy() for x in inputs)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("size", "deeper"), [((4, 6), (2, 3)), ((3, 5), (2, 2)), ((3, 4), (1, 4)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("block_bytes", [1, 2**20])
@FORWARD_MODE
def test_gradients_are_right(
    size: tuple[int, int], deeper: tuple[int, int], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_abf_kernels, "BLOCK_BYTES", block_bytes)
    inputs = random_inputs(size, deeper, torch.float64)
    # Forward mode and batches of gradients too.
    assert torch.autograd.gradcheck(
        abf_attention, inputs, check_forward_ad=True, check_batched_grad=True, fast_mode=True
    )
    assert torch.autograd.gradcheck(abf_attention, inputs)


@pytest.mark.parametrize(("size", "deeper"), [((4, 6), (2, 3)), ((3, 5), (2, 2)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("block_bytes", [1, 2**20])
@FORWARD_MODE
def test_second_derivatives_are_right(
    size: tuple[int, int], deeper: tuple[int, int], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_abf_kernels, "BLOCK_BYTES", block_bytes)
    inputs = random_inputs(size, deeper, torch.float64)
    assert torch.autograd.gradgradcheck(
        abf_attention, inputs, check_fwd_over_rev=True, check_batched_grad=True, fast_mode=True
    )


def straightforward(own: torch.Tensor, deeper: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """The attention as published, by operations that autograd knows."""
    deeper = F.interpolate(deeper, size=own.shape[2:], mode="nearest")
    share = torch.sigmoid(F.conv2d(torch.cat([own, deeper], dim=1), weight, bias))
    return own * share[:, :1] + deeper * share[:, 1:]


def penalty_gradients(loss: torch.nn.Module, student: object, teacher: object) -> list[torch.Tensor]:
    """What a penalty on the gradient at the student's shallowest level sends to every parameter of the loss."""
    shallowest = student[0][0] if isinstance(student, tuple) else student[0]  # type: ignore[index]
    (gradient,) = torch.autograd.grad(loss(student, teacher).total, shallowest, create_graph=True)
    return list(torch.autograd.grad(gradient.square().sum(), list(loss.parameters()), materialize_grads=True))


@pytest.mark.parametrize("name", ["SCFDLoss", "ReviewKDLoss"])
def test_a_gradient_penalty_is_that_of_plain_autograd(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = pyramids if name == "SCFDLoss" else pyramid
    student, teacher = (make(widths, (4, 8), dtype=torch.float64) for widths in ((2, 3), (4, 5)))
    for level in [*student[0], *student[1]] if name == "SCFDLoss" else student:
        level.requires_grad_()
    options = {"interaction": ("sem", "cem")} if name == "SCFDLoss" else {}
    loss = {"SCFDLoss": SCFDLoss, "ReviewKDLoss": ReviewKDLoss}[name]((2, 3), (4, 5), **options).double()
    found = penalty_gradients(loss, student, teacher)
    monkeypatch.setattr("mmdistill.abf.abf_attention", straightforward)
    expected = penalty_gradients(loss, student, teacher)
    assert any(bool(value.any()) for value in expected)
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_block_by_block_is_as_exact_as_all_at_once(dtype: torch.dtype) -> None:
    inputs = random_inputs((8, 12), (4, 6), torch.float64)
    narrow = [x.detach().to(dtype).requires_grad_() for x in inputs]
    abf_attention(*inputs).square().sum().backward()
    abf_attention(*narrow).square().sum().backward()
    eps = torch.finfo(dtype).eps
    for wide, x in zip(inputs, narrow, strict=True):
        assert x.grad is not None
        assert wide.grad is not None
        error = (x.grad.double() - wide.grad).abs().max() / wide.grad.abs().max()
        assert error < 16 * eps


def test_nothing_is_asked_of_the_layout() -> None:
    own, deeper, weight, bias = random_inputs((4, 6), (2, 3), torch.float64)
    expected = abf_attention(own, deeper, weight, bias)
    last = abf_attention(own.contiguous(memory_format=torch.channels_last), deeper, weight, bias)
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-14)
    expected.sum().backward()  # an expanded gradient, of stride 0
    assert own.grad is not None
