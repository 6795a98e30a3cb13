"""What taps record, and what they refuse."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from feature_taps.tapped import COMPILING, IMAGES, Residual, count_hooks
from torch import Tensor, nn

from mmdistill.feature_taps import FeatureTaps, TapError, TapWarning

pytestmark = COMPILING


# Recording.


def test_calls_are_kept_in_order_and_the_latest_is_the_feature() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    rgb, tir = torch.randn(2, 4, 3)
    with FeatureTaps(model, ["1", "0"]) as taps:
        model(rgb)
        model(tir)
    assert list(taps) == ["1", "0"]
    assert len(taps) == 2
    assert "0" in taps
    assert "2" not in taps
    first, second = taps.calls("0")
    torch.testing.assert_close(first, model[0](rgb))
    torch.testing.assert_close(second, model[0](tir))
    assert taps["0"] is second


def test_each_enter_starts_anew_and_what_was_recorded_outlives_the_block() -> None:
    model = nn.Linear(3, 2)
    taps = FeatureTaps(model, [""])
    for _ in range(3):
        with taps:
            output = model(torch.randn(4, 3))
        torch.testing.assert_close(taps[""], output)
        assert len(taps.calls("")) == 1
        model(torch.randn(4, 3))
        assert len(taps.calls("")) == 1


def test_hooks_are_gone_after_the_block_and_after_an_exception() -> None:
    model = Residual()
    taps = FeatureTaps(model, ["norm", ""])
    with taps:
        assert count_hooks(model) == 2
        model(torch.randn(IMAGES))
    assert count_hooks(model) == 0
    with pytest.raises(ZeroDivisionError), taps:
        raise ZeroDivisionError
    assert count_hooks(model) == 0
    with taps:
        model(torch.randn(IMAGES))
    assert count_hooks(model) == 0


def test_features_are_freed_by_clear() -> None:
    model = Residual()
    with FeatureTaps(model, ["norm"]) as taps:
        for _ in range(3):
            model(torch.randn(IMAGES))
    references = [weakref.ref(feature) for feature in taps.calls("norm")]
    assert all(reference() is not None for reference in references)
    gc.disable()  # No cycle holds them: they go at once.
    taps.clear()
    alive = [reference() is not None for reference in references]
    gc.enable()
    assert alive == [False, False, False]
    with pytest.raises(TapError, match=r"'norm' did not run since clear\(\)"):
        taps["norm"]


def test_clear_inside_the_block_keeps_the_hooks() -> None:
    model = nn.Linear(3, 2)
    with FeatureTaps(model, [""]) as taps:
        for _ in range(3):
            taps.clear()
            model(torch.randn(4, 3))
            assert len(taps.calls("")) == 1
        taps.clear()
    assert taps.silent == []


def test_taps_do_not_nest() -> None:
    model = nn.Linear(3, 2)
    taps = FeatureTaps(model, [""])
    with taps:
        with pytest.raises(TapError, match="already entered"):
            taps.__enter__()
        model(torch.randn(4, 3))
    assert count_hooks(model) == 0


def test_a_tied_layer_hears_all_calls_under_both_names() -> None:
    model = nn.Module()
    model.encoder = model.decoder = nn.Linear(3, 3)
    with FeatureTaps(model, ["encoder", "decoder"]) as taps:
        output = model.decoder(model.encoder(torch.randn(2, 3)))
    assert len(taps.calls("encoder")) == len(taps.calls("decoder")) == 2
    torch.testing.assert_close(taps["encoder"], output)
    torch.testing.assert_close(taps["decoder"], output)


# In place.


@pytest.mark.parametrize("backend", ["none", "eager", "aot_eager"])
def test_features_and_gradients_are_those_before_an_overwrite(backend: str) -> None:
    model = Residual().double()
    run = model if backend == "none" else torch.compile(model, backend=backend, fullgraph=True)
    images = torch.randn(IMAGES, dtype=torch.float64)
    expected = model.by_hand(images)
    assert (expected["norm"] < 0).any()
    weights = {name: torch.randn_like(feature) for name, feature in expected.items()}
    gradients = weighted_gradients(expected, weights, model)

    with FeatureTaps(run, list(expected)) as taps:
        output = run(images)
    torch.testing.assert_close(output, expected[""])
    for name, feature in taps.items():
        torch.testing.assert_close(feature, expected[name])
    for got, want in zip(weighted_gradients(taps, weights, model), gradients, strict=True):
        torch.testing.assert_close(got, want)


def weighted_gradients(
    features: Mapping[str, Tensor], weights: Mapping[str, Tensor], model: nn.Module
) -> tuple[Tensor, ...]:
    total = torch.stack([(weights[name] * feature.square()).sum() for name, feature in features.items()]).sum()
    return torch.autograd.grad(total, list(model.parameters()))


def test_a_later_loss_sends_its_gradient_through_the_feature() -> None:
    model = Residual().double()
    images = torch.randn(IMAGES, dtype=torch.float64)
    with FeatureTaps(model, ["norm"]) as taps:
        output = model(images)
    expected = model.by_hand(images)
    (got,) = torch.autograd.grad(output.sum(), taps["norm"])
    (want,) = torch.autograd.grad(expected[""].sum(), expected["norm"])
    assert want.abs().sum() > 0
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["norm", "branch"])
def test_without_the_copy_an_overwrite_is_refused(name: str) -> None:
    model = Residual()
    with FeatureTaps(model, [name], copy=False) as taps:
        model(torch.randn(IMAGES))
    with pytest.raises(TapError, match=f"'{name}' was overwritten in place after it was recorded; use copy=True"):
        taps[name]
    with pytest.raises(TapError, match="overwritten in place"):
        taps.calls(name)


def test_without_the_copy_the_model_goes_on_with_the_feature_itself() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Identity())
    for copy in (False, True):
        with FeatureTaps(model, ["0"], copy=copy) as taps:
            output = model(torch.randn(2, 3))
        assert (output is taps["0"]) == (not copy)


def test_an_overwrite_that_the_copy_does_not_catch_is_refused() -> None:
    class HandsOnItsInput(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.same = nn.Identity()

        def forward(self, images: Tensor) -> Tensor:
            features = images * 2
            self.same(features)
            return features.relu_()

    model = HandsOnItsInput()
    with FeatureTaps(model, ["same"]) as taps:
        model(torch.randn(IMAGES))
    with pytest.raises(TapError, match="overwritten in place"):
        taps["same"]


# Names.


def test_an_unknown_name_is_refused_with_close_ones_or_with_a_few() -> None:
    model = nn.ModuleDict({f"layer{index}": nn.Identity() for index in range(10)})
    with pytest.raises(TapError, match=r"no layer 'layr3'; did you mean 'layer3'"):
        FeatureTaps(model, ["layer1", "layr3"])
    with pytest.raises(TapError, match=r"no layer 'zzz'; there are '', 'layer0', .* and 3 more"):
        FeatureTaps(model, ["zzz"])
    with pytest.raises(TapError, match=r"no layer 'module.layer77'; did you mean 'layer7'"):
        FeatureTaps(nn.DataParallel(model), ["module.layer77"])


def test_names_are_a_sequence_of_different_names() -> None:
    model = nn.Sequential(nn.Identity())
    with pytest.raises(TapError, match="expected a sequence of names, got '0'"):
        FeatureTaps(model, "0")
    with pytest.raises(TapError, match="names: expected at least one"):
        FeatureTaps(model, [])
    with pytest.raises(TapError, match="expected each once, got '0' twice"):
        FeatureTaps(model, ["0", "0"])
    with FeatureTaps(model, ["0"]) as taps:
        model(torch.zeros(1))
    with pytest.raises(TapError, match="'1' is not tapped; tapped are '0'"):
        taps["1"]


# Layers that never ran.


def test_a_silent_layer_is_reported_at_exit_and_on_access() -> None:
    model = Residual()
    with (
        pytest.warns(TapWarning, match="never ran: 'norm', 'branch'") as given,
        FeatureTaps(model, ["stem", "norm", "branch"]) as taps,
    ):
        model.stem(torch.randn(IMAGES))
    assert Path(given[0].filename).name == "test_taps.py"
    assert taps.silent == ["norm", "branch"]
    assert taps["stem"].shape == (2, 4, 8, 12)
    for access in (lambda: taps["norm"], lambda: taps.calls("norm"), lambda: taps.get("norm"), lambda: dict(taps)):
        with pytest.raises(TapError, match="'norm' did not run since the taps were entered"):
            access()


def test_an_exception_is_not_covered_by_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ZeroDivisionError), FeatureTaps(nn.Identity(), [""]):
            raise ZeroDivisionError
