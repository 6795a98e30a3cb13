import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill import attention
from mmdistill.attention import attend


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
        patch.setattr(attention, "BLOCK_BYTES", block_bytes)
        found = attend(*inputs).detach().numpy()
    np.testing.assert_allclose(found, by_hand(*(x.detach().numpy() for x in inputs)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("size", "deeper"), [((4, 6), (2, 3)), ((3, 5), (2, 2)), ((3, 4), (1, 4)), ((2, 2), (2, 2))])
@pytest.mark.parametrize("block_bytes", [1, 2**20])
def test_gradients_are_right(
    size: tuple[int, int], deeper: tuple[int, int], block_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "BLOCK_BYTES", block_bytes)
    assert torch.autograd.gradcheck(attend, random_inputs(size, deeper, torch.float64))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_block_by_block_is_as_exact_as_all_at_once(dtype: torch.dtype) -> None:
    inputs = random_inputs((8, 12), (4, 6), torch.float64)
    narrow = [x.detach().to(dtype).requires_grad_() for x in inputs]
    attend(*inputs).square().sum().backward()
    attend(*narrow).square().sum().backward()
    eps = torch.finfo(dtype).eps
    for wide, x in zip(inputs, narrow, strict=True):
        assert x.grad is not None
        assert wide.grad is not None
        error = (x.grad.double() - wide.grad).abs().max() / wide.grad.abs().max()
        assert error < 16 * eps


def test_nothing_is_asked_of_the_layout() -> None:
    own, deeper, weight, bias = random_inputs((4, 6), (2, 3), torch.float64)
    expected = attend(own, deeper, weight, bias)
    last = attend(own.contiguous(memory_format=torch.channels_last), deeper, weight, bias)
    torch.testing.assert_close(last, expected, rtol=0, atol=1e-14)
    expected.sum().backward()  # an expanded gradient, of stride 0
    assert own.grad is not None
