import copy
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mmdistill import FusedPaths, MPSDFusion, Pair, ShapeError
from mmdistill.fusion import ChannelAttentionFusion, ConcatFusion, SpatialAttentionFusion

FUSIONS = [MPSDFusion, SpatialAttentionFusion, ChannelAttentionFusion, ConcatFusion]
VARIANTS = FUSIONS[1:]
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


def random_pair(channels: int, size: tuple[int, int] = (5, 7), batch: int = 3, **options: object) -> Pair[Tensor]:
    return Pair(*torch.randn(2, batch, channels, *size, **options).unbind())  # type: ignore[call-overload]


def softmax(values: np.ndarray, axis: int) -> np.ndarray:
    powers = np.exp(values - values.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


def parameters(block: nn.Module) -> dict[str, np.ndarray]:
    return {name: parameter.detach().numpy() for name, parameter in block.named_parameters()}


def convolution_by_hand(weight: np.ndarray, bias: np.ndarray, rgb: np.ndarray, tir: np.ndarray) -> np.ndarray:
    both = np.concatenate([rgb, tir], axis=1)
    return np.einsum("oc,bchw->bohw", weight[:, :, 0, 0], both) + bias[:, None, None]


def gated_by_hand(block: nn.Module, rgb: np.ndarray, tir: np.ndarray) -> np.ndarray:
    values = parameters(block)
    scores = convolution_by_hand(values["gate_convolution.weight"], values["gate_convolution.bias"], rgb, tir)
    gate = softmax(scores, 1) if block.gate == "softmax" else 1 / (1 + np.exp(-scores))
    return rgb * gate[:, :1] + tir * gate[:, 1:]


def mpsd_by_hand(block: MPSDFusion, rgb: np.ndarray, tir: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """CMD eq. 4-6 in NumPy."""
    values, channels = parameters(block), rgb.shape[1]
    paths = np.stack([gated_by_hand(block, rgb, tir), rgb * tir, rgb - tir])
    pooled = [path.max(axis=(2, 3)) for path in paths]
    if block.normalize == "paths":
        scales = [np.sqrt((path**2).mean(axis=(1, 2, 3)))[:, None] for path in paths]
        pooled = [each / scale for each, scale in zip(pooled, scales, strict=True)]
    maxima = np.concatenate(pooled, axis=1)
    if block.normalize == "layer_norm":
        centered = maxima - maxima.mean(axis=1, keepdims=True)
        maxima = centered / np.sqrt((centered**2).mean(axis=1, keepdims=True) + 1e-5)
        maxima = maxima * values["maxima_norm.weight"] + values["maxima_norm.bias"]
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
@pytest.mark.parametrize("normalize", [None, "paths", "layer_norm"])
@pytest.mark.parametrize("size", [(8, 12), (1, 1)])
def test_mpsd_is_equations_four_to_six(gate: str, weighting: str, normalize: str | None, size: tuple[int, int]) -> None:
    block = MPSDFusion(6, gate=gate, weighting=weighting, normalize=normalize).double()  # type: ignore[arg-type]
    if block.maxima_norm is not None:
        for parameter in block.maxima_norm.parameters():
            nn.init.normal_(parameter)
    pair = random_pair(6, size, dtype=torch.float64)
    for got, expected in zip(block(pair), mpsd_by_hand(block, *(member.numpy() for member in pair)), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scale", [1e-1, 1e2])
def test_paths_normalized_by_their_rms_are_weighed_alike_at_any_scale(scale: float) -> None:
    block = MPSDFusion(6, normalize="paths").double()
    nn.init.zeros_(block.gate_convolution.weight)  # the gate too would see the scale
    pair = random_pair(6, dtype=torch.float64)
    scaled = block(Pair(*(scale * member for member in pair)))
    torch.testing.assert_close(scaled.weights, block(pair).weights)
    torch.testing.assert_close(scaled.paths[1], scale**2 * block(pair).paths[1])


@pytest.mark.parametrize("normalize", ["paths", "layer_norm"])
def test_maps_without_any_value_are_weighed_too(normalize: str) -> None:
    block = MPSDFusion(4, normalize=normalize)  # type: ignore[arg-type]
    zeros = torch.zeros(2, 4, 3, 3, requires_grad=True)
    output = block(Pair(zeros, zeros))
    output.fused.sum().backward()
    assert output.weights.isfinite().all()
    assert zeros.grad is not None
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize("gate", ["softmax", "sigmoid"])
def test_spatial_attention_is_the_first_path_of_mpsd(gate: str) -> None:
    block = SpatialAttentionFusion(6, gate=gate).double()  # type: ignore[arg-type]
    pair = random_pair(6, dtype=torch.float64)
    expected = gated_by_hand(block, *(member.numpy() for member in pair))
    np.testing.assert_allclose(block(pair).fused.detach().numpy(), expected, rtol=1e-10, atol=1e-12)
    mpsd = MPSDFusion(6, gate=gate).double()  # type: ignore[arg-type]
    mpsd.gate_convolution.load_state_dict(block.gate_convolution.state_dict())
    torch.testing.assert_close(block(pair).fused, mpsd(pair).paths[0], rtol=0, atol=0)


@pytest.mark.parametrize("reduction", [1, 3])
def test_channel_attention_weighs_the_modalities_in_each_channel(reduction: int) -> None:
    block = ChannelAttentionFusion(6, reduction=reduction).double()
    pair = random_pair(6, dtype=torch.float64)
    rgb, tir = (member.numpy() for member in pair)
    values = parameters(block)
    assert values["channel_scores.0.weight"].shape == (6 // reduction, 12)
    means = np.concatenate([rgb.mean(axis=(2, 3)), tir.mean(axis=(2, 3))], axis=1)
    hidden = np.maximum(means @ values["channel_scores.0.weight"].T + values["channel_scores.0.bias"], 0)
    scores = hidden @ values["channel_scores.2.weight"].T + values["channel_scores.2.bias"]
    of_rgb = 1 / (1 + np.exp(scores[:, 6:] - scores[:, :6]))[:, :, None, None]
    expected = of_rgb * rgb + (1 - of_rgb) * tir
    np.testing.assert_allclose(block(pair).fused.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


def test_concatenation_is_a_convolution_of_both() -> None:
    block, pair = ConcatFusion(6).double(), random_pair(6, dtype=torch.float64)
    values = parameters(block)
    expected = convolution_by_hand(
        values["convolution.weight"], values["convolution.bias"], *(member.numpy() for member in pair)
    )
    np.testing.assert_allclose(block(pair).fused.detach().numpy(), expected, rtol=1e-10, atol=1e-12)


@every_fusion
def test_the_fused_map_is_the_weighted_sum_of_its_paths(fusion: type[nn.Module]) -> None:
    fused, paths, weights = fusion(4)(random_pair(4))
    assert weights.shape == (3, 3 if fusion is MPSDFusion else 1)
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(3))
    torch.testing.assert_close(fused, (paths * weights.T[..., None, None, None]).sum(dim=0))


@pytest.mark.parametrize("fusion", VARIANTS)
def test_the_only_path_is_the_fused_map_itself(fusion: type[nn.Module]) -> None:
    fused, paths, _ = fusion(4)(random_pair(4))
    assert paths.data_ptr() == fused.data_ptr()


@pytest.mark.parametrize(
    "fusion",
    [
        *(partial(MPSDFusion, normalize=normalize) for normalize in ("layer_norm", None, "paths")),
        partial(MPSDFusion, weighting="channel"),
        *VARIANTS,
    ],
    ids=["layer_norm", "published", "paths", "channel", *(fusion.__name__ for fusion in VARIANTS)],
)
def test_gradients_are_right_and_reach_every_parameter(fusion: Callable[[int], nn.Module]) -> None:
    block = fusion(3).double()
    rgb, tir = random_pair(3, (3, 4), 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a, b: block(Pair(a, b)).fused, (rgb, tir))
    block(Pair(rgb, tir)).fused.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in block.parameters())


@pytest.mark.parametrize(
    ("fusion", "expected"),
    [
        (MPSDFusion, 248_842),
        (partial(MPSDFusion, normalize="layer_norm"), 248_842 + 6 * (128 + 256)),
        (SpatialAttentionFusion, 4 * (128 + 256) + 4),
        (ChannelAttentionFusion, 4 * (128**2 + 256**2) + 3 * (128 + 256)),
        (ConcatFusion, 19_810_135 - 19_645_911),  # the plain student, less DiMP-18
    ],
)
def test_parameters_are_counted_as_stated(fusion: Callable[[int], nn.Module], expected: int) -> None:
    assert sum(parameter.numel() for channels in (128, 256) for parameter in fusion(channels).parameters()) == expected


@every_fusion
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 9), (1, 6, 4)])
def test_any_batch_height_and_width(fusion: type[nn.Module], shape: tuple[int, int, int]) -> None:
    batch, *size = shape
    fused, paths, weights = fusion(4)(random_pair(4, (size[0], size[1]), batch))
    assert fused.shape == (batch, 4, *size)
    assert paths.shape[1:] == fused.shape
    assert weights.shape == (batch, len(paths))


@every_fusion
def test_a_samples_fused_map_depends_on_that_sample_alone(fusion: type[nn.Module]) -> None:
    block, pair = fusion(4).double(), random_pair(4, dtype=torch.float64)
    alone = [block(Pair(pair.rgb[n : n + 1], pair.tir[n : n + 1])).fused for n in range(3)]
    torch.testing.assert_close(block(pair).fused, torch.cat(alone))


@every_fusion
def test_memory_format_is_kept_and_changes_no_value(fusion: type[nn.Module]) -> None:
    block, pair = fusion(4).double(), random_pair(4, dtype=torch.float64)
    permuted = Pair(*(member.to(memory_format=torch.channels_last) for member in pair))
    got, expected = block(permuted), block(pair)
    torch.testing.assert_close(got, expected)
    for last, first in zip([got.fused, *got.paths], [expected.fused, *expected.paths], strict=True):
        assert last.is_contiguous(memory_format=torch.channels_last)
        assert first.is_contiguous()


@every_fusion
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_autocast_keeps_every_value_finite(fusion: type[nn.Module], dtype: torch.dtype, scale: float) -> None:
    block, pair = fusion(8), random_pair(8)
    pair = Pair(*((scale * member).to(dtype) for member in pair))
    expected = block(Pair(*(member.float() for member in pair))).fused
    with torch.autocast("cpu", dtype=dtype):
        output = block(pair)
    output.fused.float().mean().backward()
    assert all(values.isfinite().all() for values in output)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in block.parameters())
    if scale <= 1:  # beyond, the rounding of large scores moves the softmax
        torch.testing.assert_close(output.fused.float(), expected, rtol=0.05, atol=0.05 * scale)


@every_fusion
def test_half_precision_networks_stay_in_half_precision(fusion: type[nn.Module]) -> None:
    output = fusion(4).half()(random_pair(4, dtype=torch.float16))
    assert {values.dtype for values in output} == {torch.float16}
    assert output.fused.isfinite().all()


@every_fusion
def test_shapes_are_known_without_memory(fusion: type[nn.Module]) -> None:
    with torch.device("meta"):
        assert fusion(4)(random_pair(4)).fused.shape == (3, 4, 5, 7)


@every_fusion
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_compiled_and_exported_it_gives_the_same(fusion: type[nn.Module]) -> None:
    block, pair = fusion(4), random_pair(4)
    compiled = torch.compile(block, fullgraph=True, backend="eager", dynamic=True)
    for inputs in (pair, random_pair(4, (8, 3), 5)):
        got = compiled(inputs)
        assert isinstance(got, FusedPaths)
        torch.testing.assert_close(got, block(inputs))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(pair), block(pair))
    exported = torch.export.export(block, (pair,))
    assert not [node for node in exported.graph.nodes if "autocast" in str(node.target)]
    torch.testing.assert_close(exported.module()(pair), block(pair))


@every_fusion
def test_copies_and_states_carry_everything(fusion: type[nn.Module]) -> None:
    block, pair = fusion(4), random_pair(4)
    other = fusion(4)
    other.load_state_dict(block.state_dict())
    for twin in (copy.deepcopy(block), other):
        torch.testing.assert_close(twin(pair).fused, block(pair).fused)


@every_fusion
def test_a_plain_tuple_is_a_pair(fusion: type[nn.Module]) -> None:
    block, pair = fusion(4), random_pair(4)
    torch.testing.assert_close(block(tuple(pair)).fused, block(pair).fused)


@every_fusion
def test_wrong_inputs_are_named(fusion: type[nn.Module]) -> None:
    block, name = fusion(8), fusion.__name__
    with pytest.raises(ShapeError, match=f"{name}: rgb: channels: expected 8, got 4"):
        block(random_pair(4))
    with pytest.raises(ShapeError, match=f"{name}: tir: width: expected 7 as rgb, got 6"):
        block(Pair(torch.zeros(3, 8, 5, 7), torch.zeros(3, 8, 5, 6)))
    with pytest.raises(ShapeError, match=f"{name}: rgb: batch: expected at least 1, got 0"):
        block(random_pair(8, batch=0))
    with pytest.raises(ShapeError, match=rf"{name}: input: type: expected Pair\(rgb, tir\), got Tensor"):
        block(torch.zeros(1, 8, 2, 2))


def test_unknown_choices_are_refused() -> None:
    with pytest.raises(ValueError, match="MPSDFusion: gate: expected one of softmax, sigmoid, got 'relu'"):
        MPSDFusion(8, gate="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="SpatialAttentionFusion: gate: expected one of softmax, sigmoid, got 'relu'"):
        SpatialAttentionFusion(8, gate="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="MPSDFusion: weighting: expected one of path, channel, got 'level'"):
        MPSDFusion(8, weighting="level")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="MPSDFusion: normalize: expected one of None, paths, layer_norm, got 'rms'"):
        MPSDFusion(8, normalize="rms")  # type: ignore[arg-type]
    for reduction in (0, 9):
        with pytest.raises(ValueError, match=f"reduction: expected a whole number from 1 to 8, got {reduction}"):
            ChannelAttentionFusion(8, reduction=reduction)


FUSIONS = [SpatialAttentionFusion, ChannelAttentionFusion, ConcatFusion, MPSDFusion]
FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("weights", FLOATS, ids=str)
@pytest.mark.parametrize("side", ["rgb", "tir"])
def test_another_number_type_than_the_weights_is_refused(
    fusion: type[nn.Module], weights: torch.dtype, side: str
) -> None:
    block, pair = fusion(4).to(weights), random_pair(4, dtype=weights)
    assert {values.dtype for values in block(pair)} == {weights}
    for other in FLOATS:
        if other != weights:
            with pytest.raises(ShapeError) as caught:
                block(pair._replace(**{side: getattr(pair, side).to(other)}))
            assert str(caught.value) == (
                f"{fusion.__name__}: {side}: dtype: expected {weights} as the weights, got {other}"
            )


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("autocast", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_takes_float32_and_its_own_type_only(fusion: type[nn.Module], autocast: torch.dtype) -> None:
    for weights in FLOATS:
        for rgb in FLOATS:
            for tir in FLOATS:
                block, pair = fusion(4).to(weights), random_pair(4)
                with torch.no_grad():
                    expected = block.double()(Pair(*(member.double() for member in pair))).fused
                given, types = Pair(pair.rgb.to(rgb), pair.tir.to(tir)), {weights, rgb, tir}
                with torch.autocast("cpu", dtype=autocast):
                    if types <= {torch.float32, autocast} or types == {torch.float64}:
                        fused = block.to(weights)(given).fused
                        torch.testing.assert_close(fused.double(), expected, rtol=0.05, atol=0.05)
                    else:
                        with pytest.raises(ShapeError, match=rf"{fusion.__name__}: (weights|rgb|tir): dtype: expected"):
                            block.to(weights)(given)
