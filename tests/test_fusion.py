import numpy as np
import pytest
import torch

from mmdistill import MPSDFusion, Pair, ShapeError


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def by_hand(block: MPSDFusion, rgb: np.ndarray, tir: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CMD eq. 4-6 in NumPy, sample by sample."""
    values = {name: parameter.detach().numpy() for name, parameter in block.named_parameters()}
    channels = rgb.shape[1]
    both = np.concatenate([rgb, tir], axis=1)
    gate = np.einsum("oc,bchw->bohw", values["gate_convolution.weight"][:, :, 0, 0], both)
    gate = gate + values["gate_convolution.bias"][:, None, None]
    gate = softmax(gate, 1) if block.gate == "softmax" else 1 / (1 + np.exp(-gate))
    paths = np.stack([rgb * gate[:, :1] + tir * gate[:, 1:], rgb * tir, rgb - tir])
    maxima = np.concatenate([path.max(axis=(2, 3)) for path in paths], axis=1)
    hidden = np.maximum(maxima @ values["path_weights.0.weight"].T + values["path_weights.0.bias"], 0)
    logits = hidden @ values["path_weights.2.weight"].T + values["path_weights.2.bias"]
    if block.weighting == "path":
        weights = softmax(logits, 1)
        fused = sum(weights[:, p, None, None, None] * paths[p] for p in range(3))
    else:
        weights = softmax(logits.reshape(-1, 3, channels), 1)
        fused = sum(weights[:, p, :, None, None] * paths[p] for p in range(3))
    return fused, paths, weights


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
@pytest.mark.parametrize("weighting", ["path", "channel"])
@pytest.mark.parametrize("size", [(8, 12), (1, 1)])
def test_values_agree_with_the_equations(gate: str, weighting: str, size: tuple[int, int]) -> None:
    block = MPSDFusion(6, gate=gate, weighting=weighting).double()  # type: ignore[arg-type]
    pair = Pair(*torch.randn(2, 3, 6, *size, dtype=torch.float64))
    for got, expected in zip(block(pair), by_hand(block, *(member.numpy() for member in pair)), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_weights_are_shares_for_each_sample() -> None:
    weights = MPSDFusion(4)(Pair(*torch.randn(2, 5, 4, 3, 3))).weights
    assert weights.shape == (5, 3)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(5))


@pytest.mark.parametrize("weighting", ["path", "channel"])
def test_gradients_are_right(weighting: str) -> None:
    block = MPSDFusion(3, weighting=weighting).double()  # type: ignore[arg-type]
    rgb, tir = torch.randn(2, 2, 3, 3, 4, dtype=torch.float64).requires_grad_().unbind()
    assert torch.autograd.gradcheck(lambda a, b: block(Pair(a, b)).fused, (rgb, tir))


def test_parameters_are_counted_as_stated() -> None:
    blocks = [MPSDFusion(128), MPSDFusion(256)]
    assert sum(parameter.numel() for block in blocks for parameter in block.parameters()) == 248_842


def test_wrong_inputs_are_named() -> None:
    with pytest.raises(ShapeError, match="MPSDFusion: rgb: channels: expected 8, got 4"):
        MPSDFusion(8)(Pair(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 2, 2)))
    with pytest.raises(ShapeError, match=r"expected Pair\(rgb, tir\), got Tensor"):
        MPSDFusion(8)(torch.zeros(1, 8, 2, 2))
    with pytest.raises(ValueError, match="gate must be one of softmax, sigmoid; got 'relu'"):
        MPSDFusion(8, gate="relu")  # type: ignore[arg-type]
