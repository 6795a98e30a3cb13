"""Models and taps that are copied, pickled, sent to other processes, and whose layers are replaced."""

from __future__ import annotations

import copy
import io
import operator
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from feature_taps.tapped import COMPILING, IMAGES, Residual, compiled, count_hooks
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from mmdistill.feature_taps import FeatureTaps, TapError

pytestmark = COMPILING


class SelfTapping(Residual):
    """A model that has taps on its own layers, and uses them at each call."""

    def __init__(self) -> None:
        super().__init__()
        self.taps = FeatureTaps(self, ["norm", "branch"], select={"branch": operator.itemgetter(slice(1))}, copy=True)

    def forward(self, images: Tensor) -> Tensor:
        with self.taps:
            return super().forward(images)


def saved(model: Any) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
}


@pytest.fixture
def images() -> Tensor:
    return torch.randn(IMAGES)


@pytest.mark.parametrize("made", COPIES)
def test_a_copied_models_taps_are_on_the_copy_and_empty(made: str, images: Tensor) -> None:
    model = SelfTapping()
    model(images)
    kept = model.taps["norm"]
    twin = COPIES[made](model)
    assert twin.taps.silent == ["norm", "branch"]
    with pytest.raises(TapError, match="'norm' did not run"):
        twin.taps["norm"]
    nn.init.constant_(twin.norm.bias, 3.0)
    twin(images)
    torch.testing.assert_close(twin.taps["norm"], kept + 3)
    assert twin.taps["branch"].shape == (1, 4, 8, 12)  # its choice came along
    assert model.taps["norm"] is kept
    assert len(model.taps.calls("norm")) == 1
    assert twin.state_dict().keys() == Residual().state_dict().keys()


@pytest.mark.parametrize("made", COPIES)
def test_a_copy_made_inside_the_block_is_not_listened_to(made: str, images: Tensor) -> None:
    model = Residual()
    with FeatureTaps(model, ["norm"], select={"norm": lambda output: output}) as taps:
        model(images)
        twin = COPIES[made](model)
        twin(images)
    twin(images)
    assert len(taps.calls("norm")) == 1
    with FeatureTaps(twin, ["norm"]) as taps:
        output = twin(images)
    torch.testing.assert_close(taps["norm"], model.norm(model.stem(images)))
    torch.testing.assert_close(output, model.by_hand(images)[""])


def test_an_averaged_model_is_tapped_by_itself(images: Tensor) -> None:
    model = SelfTapping()
    model(images)
    averaged = AveragedModel(model)
    with torch.no_grad():
        model.norm.bias += 2
    averaged.update_parameters(model)
    with FeatureTaps(averaged, ["norm"]) as taps:
        averaged(images)
    torch.testing.assert_close(taps["norm"], averaged.module.taps["norm"])
    torch.testing.assert_close(averaged.module.norm.bias, torch.full((4,), 2.0))


def test_a_shallow_copy_of_taps_is_a_second_set(images: Tensor) -> None:
    model = Residual()
    with FeatureTaps(model, ["norm"]) as first:
        second = copy.copy(first)
        with second:
            model(images)
    torch.testing.assert_close(first["norm"], second["norm"])
    assert first["norm"] is not second["norm"]
    assert count_hooks(model) == 0


def forward_and_shape(model: SelfTapping, shapes: Any) -> None:
    model(torch.randn(IMAGES))
    shapes.put(tuple(model.taps["norm"].shape))


@pytest.mark.slow
def test_a_model_with_taps_goes_to_another_process(images: Tensor) -> None:
    model = SelfTapping()
    model(images)
    context = torch.multiprocessing.get_context("spawn")
    shapes = context.SimpleQueue()
    process = context.Process(target=forward_and_shape, args=(model, shapes))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert shapes.get() == (2, 4, 8, 12)


# Layers that are replaced after the taps were made.


def replaced(model: Residual) -> nn.Module:
    model.norm = nn.BatchNorm2d(4)
    return model


def replaced_branch(model: Residual) -> nn.Module:
    model.branch = copy.deepcopy(model.branch)
    return model


def parametrized(model: Residual) -> nn.Module:
    nn.utils.parametrizations.weight_norm(model.branch[0])
    return model


def wrapped(model: Residual) -> nn.Module:
    model.branch = nn.DataParallel(model.branch)  # type: ignore[assignment]
    return model


def compiled_branch(model: Residual) -> nn.Module:
    model.branch = compiled(model.branch)  # type: ignore[assignment]
    return model


REPLACED: dict[str, Callable[[Residual], nn.Module]] = {
    "SyncBatchNorm": nn.SyncBatchNorm.convert_sync_batchnorm,
    "another layer": replaced,
    "a deepcopy": replaced_branch,
    "parametrized": parametrized,
    "wrapped": wrapped,
    "compiled": compiled_branch,
}


@pytest.mark.parametrize("how", REPLACED)
def test_layers_are_looked_up_at_each_enter(how: str, images: Tensor) -> None:
    model = Residual().eval()
    taps = FeatureTaps(model, ["norm", "branch.0", "branch"])
    with taps:
        model(images)
    model = REPLACED[how](model).eval()
    for _ in range(2):
        with taps:
            model(images)
        expected = model.by_hand(images)
        torch.testing.assert_close(taps["norm"], expected["norm"])
        torch.testing.assert_close(taps["branch"], expected["branch"])
        assert len(taps.calls("branch.0")) == 1
    assert count_hooks(model) == 0


def test_a_layer_that_is_gone_is_refused_at_enter(images: Tensor) -> None:
    model = Residual()
    taps = FeatureTaps(model, ["norm", "branch.1"])
    model.branch = nn.Sequential(nn.Identity())
    with pytest.raises(TapError, match=r"no layer 'branch.1'; did you mean 'branch"):
        taps.__enter__()
    assert count_hooks(model) == 0
    model.branch = nn.Sequential(nn.Identity(), nn.Identity())
    with taps:
        model(images)
    assert taps["branch.1"].shape == (2, 4, 8, 12)
