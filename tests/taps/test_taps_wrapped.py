"""Names and calls of wrapped models: DataParallel, DistributedDataParallel, torch.compile and any of them together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from taps.tapped import (
    COMPILING,
    IMAGES,
    Residual,
    compiled,
    compiled_in_place,
    compiled_twice,
    compiled_within,
    count_hooks,
)
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmdistill.taps import FeatureTaps, TapError

pytestmark = COMPILING

WRAPPINGS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda model: model,
    "DataParallel": nn.DataParallel,
    "DDP": DistributedDataParallel,
    "compiled": compiled,
    "compiled in place": compiled_in_place,
    "compiled within": compiled_within,
    "compiled twice": compiled_twice,
    "DDP of compiled": lambda model: DistributedDataParallel(compiled(model)),
    "compiled DDP": lambda model: compiled(DistributedDataParallel(model)),
    "DDP of compiled DDP": lambda model: DistributedDataParallel(compiled(DistributedDataParallel(model))),
}


@pytest.mark.usefixtures("one_process")
@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_plain_names_are_found_in_whatever_wrapping(wrapping: str) -> None:
    model = Residual().eval()
    images = torch.randn(IMAGES)
    expected = {**model.by_hand(images), "branch.0": model.branch[0](model.by_hand(images)["norm"].relu())}
    wrapped = WRAPPINGS[wrapping](model)
    paths = {path for path, _ in wrapped.named_modules()}
    written_out = {path for path in paths if path.endswith(("norm", "branch._orig_mod.0", "branch.0"))}
    with FeatureTaps(wrapped, [*expected, *(written_out - expected.keys())]) as taps:
        wrapped(images)
    assert taps.silent == []
    for name, feature in taps.items():
        plain = name.replace("module.", "").replace("_orig_mod.", "")
        torch.testing.assert_close(feature, expected[plain])
    assert count_hooks(wrapped) == 0


@pytest.mark.parametrize("wrap", [lambda model: model, nn.DataParallel])
def test_a_layer_that_really_is_called_module_keeps_its_name(wrap: Callable[[nn.Module], nn.Module]) -> None:
    class Doubled(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, values: Tensor) -> Tensor:
            return self.module(values) * 2

    model = nn.Sequential(Doubled(nn.Identity()))
    with FeatureTaps(wrap(model), ["0", "0.module"]) as taps:
        model(torch.ones(1))
    assert taps["0"].item() == 2
    assert taps["0.module"].item() == 1


def test_data_parallel_replicas_are_refused() -> None:
    model = nn.Linear(3, 2)
    with FeatureTaps(model, [""]):
        model(torch.zeros(1, 3))
        replica = model._replicate_for_data_parallel()
        replica.weight, replica.bias = model.weight.clone(), model.bias.clone()
        with pytest.raises(TapError, match="ran in a DataParallel replica; use DistributedDataParallel"):
            replica(torch.zeros(1, 3))
