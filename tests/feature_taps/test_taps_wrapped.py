"""Names and calls of wrapped models: DataParallel, DistributedDataParallel, torch.compile and any of them together."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from feature_taps.tapped import (
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
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.device_mesh import init_device_mesh
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from mmdistill.feature_taps import FeatureTaps, TapError

pytestmark = COMPILING

WRAPPINGS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "plain": lambda model: model,
    "DataParallel": nn.DataParallel,
    "DDP": DistributedDataParallel,
    "averaged": AveragedModel,
    "checkpointed": checkpoint_wrapper,
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
@pytest.mark.slow
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
        plain = name.replace("_checkpoint_wrapped_module.", "").replace("module.", "").replace("_orig_mod.", "")
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


@pytest.mark.usefixtures("one_process")
def test_a_fully_sharded_model() -> None:
    fsdp = pytest.importorskip("torch.distributed.fsdp")
    if not hasattr(fsdp, "fully_shard"):
        pytest.skip("this PyTorch has no fully_shard")
    model, plain = Residual(), Residual()
    plain.load_state_dict(model.state_dict())
    taps = FeatureTaps(model, ["norm", "branch", ""])  # before the layers change their class
    mesh = init_device_mesh("cpu", (1,))
    fsdp.fully_shard(model.branch, mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    images, before = torch.randn(IMAGES), count_hooks(model)
    with taps:
        output = model(images)
    expected = plain.by_hand(images)
    for name, feature in taps.items():
        torch.testing.assert_close(feature, expected[name])
    (output.sum() + taps["branch"].square().sum()).backward()
    (expected[""].sum() + expected["branch"].square().sum()).backward()
    for got, want in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(got.grad.full_tensor(), want.grad)
    assert count_hooks(model) == before


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    model = Residual()
    taps = FeatureTaps(model, ["branch"])
    scripted = torch.jit.script(Residual())
    for name in ("", "norm"):
        with pytest.raises(TapError, match=f"'{name}' is TorchScript, which runs no hooks"):
            FeatureTaps(scripted, [name])
    model.branch = scripted
    with pytest.raises(TapError, match="'branch' is TorchScript"):
        taps.__enter__()
