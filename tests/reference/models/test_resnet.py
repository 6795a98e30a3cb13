import json

import pytest
import torch
from helpers import GOLDEN

from mmdistill.reference.models.resnet import ResNetTrunk


@pytest.mark.parametrize("depth", [18, 50])
def test_names_and_shapes_equal_public_checkpoints(depth: int) -> None:
    layout = json.loads((GOLDEN / f"dimp{depth}_checkpoint_layout.json").read_text())
    prefix = "feature_extractor."
    unused = (prefix + "layer4", prefix + "fc")
    public = {
        name.removeprefix(prefix): tuple(shape)
        for name, shape in layout.items()
        if name.startswith(prefix) and not name.startswith(unused)
    }
    ours = {name: tuple(value.shape) for name, value in ResNetTrunk(depth).state_dict().items()}  # type: ignore[arg-type]
    assert ours == public


@pytest.mark.parametrize(("depth", "width"), [(18, 64), (50, 64), (18, 8)])
def test_levels_have_the_stated_shapes(depth: int, width: int) -> None:
    trunk = ResNetTrunk(depth, width).eval()  # type: ignore[arg-type]
    features = trunk(torch.randn(2, 3, 96, 64))
    for level, x in zip(trunk.levels, features, strict=True):
        assert x.shape == (2, level.channels, 96 // level.stride, 64 // level.stride)
    expected = {18: (1, 1, 2, 4), 50: (1, 4, 8, 16)}[depth]
    assert trunk.channels == tuple(width * factor for factor in expected)


def test_parameter_counts() -> None:
    count = sum(parameter.numel() for parameter in ResNetTrunk(18).parameters())
    assert count == 9_408 + 128 + 147_968 + 525_568 + 2_099_712
