from typing import cast

import numpy as np
import pytest
import torch
from helpers import GOLDEN, pyramid

from mmdistill import ABF, ABFChain, ShapeError
from mmdistill.abf import Convolution, make_adaptor

PUBLISHED_NAMES = {"conv1": "reduce", "att_conv.0": "attention", "conv2": "expand"}


def golden_chain(values: np.lib.npyio.NpzFile) -> ABFChain:
    chain = ABFChain(
        values["student_channels"].tolist(), values["teacher_channels"].tolist(), int(values["mid_channels"])
    )
    state = {}
    for key in values.files:
        if key.startswith("params/level"):
            level, _, name = key.removeprefix("params/level").partition(".")
            for published, ours in PUBLISHED_NAMES.items():
                if name.startswith(published):
                    name = ours + name.removeprefix(published)
                    break
            state[f"levels.{int(level) - 1}.{name}"] = torch.as_tensor(values[key])
    chain.load_state_dict(state)
    return chain


def golden_inputs(values: np.lib.npyio.NpzFile) -> list[torch.Tensor]:
    return [torch.as_tensor(values[f"input/level{level}"]) for level in range(1, 5)]


def undo_one_update(chain: ABFChain, inputs: list[torch.Tensor]) -> None:
    """Take the running statistics back to before one training pass over these inputs, momentum 0.1."""
    saved = {name: buffer.clone() for name, buffer in chain.named_buffers() if "running" in name}
    chain.train()(inputs)
    for name, buffer in chain.named_buffers():
        if "running" in name:
            batch = (buffer - 0.9 * saved[name]) / 0.1
            buffer.copy_((saved[name] - 0.1 * batch) / 0.9)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_golden_values_of_the_published_chain(mode: str) -> None:
    values = np.load(GOLDEN / "abf_chain.npz")
    chain, inputs = golden_chain(values), golden_inputs(values)
    if mode == "eval":  # the running statistics were saved after the training pass, the eval outputs made before it
        undo_one_update(chain, inputs)
    outputs = chain.train(mode == "train")(inputs)
    for level, output in enumerate(outputs, start=1):
        expected = torch.as_tensor(values[f"{mode}_output/level{level}"])
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_parameters_of_the_reference_chain_are_counted_as_stated() -> None:
    chain = ABFChain((64, 64, 128, 256), (64, 256, 512, 1024), 256)
    assert sum(parameter.numel() for parameter in chain.parameters()) == 4_416_134


def test_the_attention_weighs_this_level_and_the_nearest_deeper_one() -> None:
    abf = ABF(3, 4, 5).double().eval()
    x, deeper = torch.randn(2, 3, 6, 9, dtype=torch.float64), torch.randn(2, 4, 3, 3, dtype=torch.float64)
    own = abf.reduce(x).detach().numpy()
    rows, columns = np.arange(6) * 3 // 6, np.arange(9) * 3 // 9
    resized = deeper.numpy()[:, :, rows][:, :, :, columns]
    stacked = np.concatenate([own, resized], axis=1)
    assert abf.attention is not None
    weight, bias = abf.attention.weight.detach().numpy()[:, :, 0, 0], abf.attention.bias.detach().numpy()
    share = 1 / (1 + np.exp(-(np.einsum("oc,bchw->bohw", weight, stacked) + bias[:, None, None])))
    carried = abf(x, deeper)[1].detach().numpy()
    np.testing.assert_allclose(carried, own * share[:, :1] + resized * share[:, 1:], rtol=1e-12)


@pytest.mark.parametrize("size", [(8, 12), (9, 7), (1, 1), (3, 17)])
def test_any_height_and_width(size: tuple[int, int]) -> None:
    features = [torch.randn(2, 8, *size), torch.randn(2, 16, (size[0] + 1) // 2, (size[1] + 1) // 2)]
    chain = ABFChain((8, 16), (4, 5), 6).eval()
    assert [tuple(a.shape[2:]) for a in chain(features)] == [tuple(f.shape[2:]) for f in features]


def test_gradients_of_the_chain_are_right() -> None:
    chain = ABFChain((2, 3), (2, 2), 2).double().eval()
    features = [x.requires_grad_() for x in pyramid((2, 3), (4, 4), 2, dtype=torch.float64)]
    assert torch.autograd.gradcheck(lambda *levels: tuple(chain(levels)), features)


def test_wrong_inputs_are_named() -> None:
    chain = ABFChain((8, 16), (4, 5), 6)
    with pytest.raises(ShapeError, match="ABFChain: input: levels: expected 2, got 3"):
        chain(pyramid((8, 16, 16)))
    with pytest.raises(ShapeError, match="ABFChain: level 2: channels: expected 16, got 8"):
        chain(pyramid((8, 8)))
    with pytest.raises(ShapeError, match=r"ABF: deeper: input: expected a map \(fuse=True\), got none"):
        ABF(8, 6, 4)(torch.zeros(1, 8, 4, 4))
    with pytest.raises(ShapeError, match="teacher_channels: levels: expected 2, got 1"):
        ABFChain((8, 16), (4,), 6)


def test_the_adaptor_is_the_identity_where_channels_agree() -> None:
    x = torch.randn(2, 4, 3, 3)
    assert make_adaptor(4, 4)(x) is x
    assert make_adaptor(4, 6)(x).shape == (2, 6, 3, 3)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("weights", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
@pytest.mark.parametrize("features", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "last"])
def test_a_weight_and_its_gradient_are_laid_out_alike(
    kernel: int, channels: int, weights: torch.memory_format, features: torch.memory_format
) -> None:
    convolution = Convolution(channels, 3, kernel, padding=kernel // 2).to(memory_format=weights)
    convolution(torch.randn(2, channels, 5, 6).to(memory_format=features)).square().sum().backward()
    weight = convolution.weight
    assert weight.grad is not None
    assert weight.grad.is_contiguous(memory_format=weights)
    if weights == torch.contiguous_format or channels > 1:
        assert weight.grad.stride() == weight.stride()


def test_the_3x3_weight_of_an_abf_is_laid_out_once_for_the_step() -> None:
    """Not by each convolution and its gradient: on small maps that took a tenth of the step."""
    convolution = cast(Convolution, ABF(6, 4, 5, fuse=False).expand[0])
    used = convolution.weight_for_gradient()
    assert used.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(used, convolution.weight)
    used.backward(torch.ones_like(used))
    assert convolution.weight.grad is not None
    assert convolution.weight.is_contiguous()
    assert convolution.weight.grad.is_contiguous()


def test_the_convolutions_of_an_abf_start_as_in_knowledge_review() -> None:
    """Uniform up to sqrt(3 / fan in): kaiming_uniform with a = 1, a gain of sqrt(2 / (1 + a^2)) = 1."""
    abf = ABF(40, 50, 60)
    for _ in range(2):
        for part, fan_in in ((abf.reduce, 40), (abf.expand, 9 * 50)):
            weight, bound = part[0].weight.detach(), (3 / fan_in) ** 0.5
            assert part[0].bias is None
            assert 0.95 * bound < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
            part[0].reset_parameters()


def test_an_abf_in_training_needs_two_values_per_channel() -> None:
    chain = ABFChain((8, 16), (4, 5), 6)
    before = {name: values.clone() for name, values in chain.state_dict().items()}
    features = [torch.randn(1, 8, 2, 2), torch.randn(1, 16, 1, 1)]
    with pytest.raises(ShapeError, match=r"ABFChain: level 2: values per channel: expected at least 2 .*, got 1$"):
        chain(features)
    with pytest.raises(ShapeError, match=r"ABF: input: values per channel: expected at least 2 .*, got 1$"):
        chain.levels[1](features[1])
    assert all(torch.equal(values, before[name]) for name, values in chain.state_dict().items())
    chain([torch.cat([x, x]) for x in features])
    chain([features[0], torch.randn(1, 16, 1, 2)])
    for part in chain.modules():  # frozen statistics, as in the middle of a training run
        part.train(not isinstance(part, torch.nn.BatchNorm2d))
    chain(features)
