"""What taps record, and what they refuse."""

from __future__ import annotations

import gc
import operator
import threading
import warnings
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from taps.tapped import COMPILING, IMAGES, Residual, count_hooks
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from mmdistill import FusedPaths, MPSDFusion, MPSDLoss, Pair
from mmdistill.taps import FeatureTaps, TapError, TapWarning

pytestmark = COMPILING


class Attention(nn.Module):
    def __init__(self, pack: Callable[[Tensor, Tensor], object], take: Callable[..., Tensor]) -> None:
        super().__init__()
        self.inner = Packed(pack)
        self.take = take

    def forward(self, images: Tensor) -> Tensor:
        return self.take(self.inner(images)).relu_()


class Packed(nn.Module):
    def __init__(self, pack: Callable[[Tensor, Tensor], object]) -> None:
        super().__init__()
        self.pack = pack

    def forward(self, images: Tensor) -> object:
        return self.pack(images * 2, images.mean())


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


# Outputs that are no tensors.

PACKINGS = {
    "tuple": (lambda main, other: (main, other), operator.itemgetter(0)),
    "list": (lambda main, other: [other, main], operator.itemgetter(1)),
    "dict": (lambda main, other: {"main": main, "other": [other]}, operator.itemgetter("main")),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_layer_that_gives_no_tensor_asks_for_a_choice_and_takes_it(packing: str) -> None:
    pack, take = PACKINGS[packing]
    model = Attention(pack, take)
    images = torch.randn(IMAGES)
    with (
        pytest.raises(TapError, match=rf"'inner' gives no tensor but a {packing}; choose one, .*select=\{{'inner'"),
        FeatureTaps(model, ["inner"]),
    ):
        model(images)
    with FeatureTaps(model, ["inner", ""], select={"inner": take}) as taps:
        output = model(images)
    torch.testing.assert_close(taps["inner"], images * 2)
    torch.testing.assert_close(output, (images * 2).relu())


class ModelOutput(NamedTuple):
    main: Tensor
    others: list[Tensor]
    name: str


def test_a_choice_may_be_any_pytree_and_each_tensor_of_it_is_kept_from_overwrites() -> None:
    def pack(main: Tensor, other: Tensor) -> ModelOutput:
        return ModelOutput(main, [other, main * 3], "packed")

    def overwrite(output: ModelOutput) -> Tensor:
        for tensor in output.others:
            tensor.zero_()
        return output.main

    model = Attention(pack, overwrite)
    images = torch.randn(IMAGES)
    chosen = {"all": lambda output: output, "some": lambda output: {"last": output.others[1], "main": (output[0],)}}
    with FeatureTaps(model, ["inner"], select={"inner": chosen["all"]}) as taps:
        output = model(images)
    torch.testing.assert_close(output, (images * 2).relu())
    assert isinstance(taps["inner"], ModelOutput)
    torch.testing.assert_close(taps["inner"].main, images * 2)
    torch.testing.assert_close(taps["inner"].others, [images.mean(), images * 6])
    assert taps["inner"].name == "packed"
    with FeatureTaps(model, ["inner"], select={"inner": chosen["some"]}) as taps:
        model(images)
    torch.testing.assert_close(taps["inner"], {"last": images * 6, "main": (images * 2,)})
    with FeatureTaps(model, ["inner"], select={"inner": chosen["all"]}, copy=False) as taps:
        model(images)
    with pytest.raises(TapError, match="'inner' was overwritten in place"):
        taps["inner"]


def test_a_choice_that_is_a_view_is_kept_from_overwrites() -> None:
    model = Residual()
    images = torch.randn(IMAGES)
    with FeatureTaps(model, ["norm"], select={"norm": lambda output: output[:, 1:]}) as taps:
        model(images)
    torch.testing.assert_close(taps["norm"], model.by_hand(images)["norm"][:, 1:])


def test_a_fusion_is_tapped_with_its_paths_and_weights() -> None:
    class Fusing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fusion = MPSDFusion(4)

        def forward(self, rgb: Tensor, tir: Tensor) -> Tensor:
            return self.fusion(Pair(rgb, tir)).fused.relu_()

    model, teacher = Fusing(), torch.randn(2, 6, 5, 7)
    images = torch.randn(2, 2, 4, 5, 7)
    with FeatureTaps(model, ["fusion"]) as taps:
        model(*torch.randn(2, 2, 4, 3, 3))
        model(*images)
    want = model.fusion(Pair(*images))
    assert isinstance(taps["fusion"], FusedPaths)
    torch.testing.assert_close(taps["fusion"], want)
    loss = MPSDLoss((4,), (6,))
    terms, expected = loss([taps["fusion"]], [teacher]), loss([want], [teacher])
    torch.testing.assert_close(terms.total, expected.total)
    parameters = list(model.parameters())
    for got, by_hand in zip(
        torch.autograd.grad(terms.total, parameters), torch.autograd.grad(expected.total, parameters), strict=True
    ):
        torch.testing.assert_close(got, by_hand)


@pytest.mark.parametrize(
    ("select", "message"),
    [
        (operator.itemgetter("main"), r"select\['inner'\] failed on a tuple: TypeError.*indices"),
        (operator.itemgetter(7), r"select\['inner'\] failed on a tuple: IndexError"),
        (operator.attrgetter("hidden"), r"select\['inner'\] failed on a tuple: AttributeError"),
        (lambda output: (None, len(output)), r"select\['inner'\] gives no tensor but a tuple"),
    ],
)
def test_a_choice_that_fails_is_named(select: Callable[[object], object], message: str) -> None:
    model = Attention(lambda main, other: (main, other), operator.itemgetter(0))
    with pytest.raises(TapError, match=message), FeatureTaps(model, ["inner"], select={"inner": select}):
        model(torch.randn(IMAGES))
    assert count_hooks(model) == 0


def test_a_choice_for_an_untapped_layer_is_refused() -> None:
    with pytest.raises(TapError, match=r"select: expected names that are tapped, got \['1'\]"):
        FeatureTaps(nn.Sequential(nn.Identity()), ["0"], select={"1": operator.itemgetter(0)})


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


# Modes.


def test_features_under_no_grad_and_inference_mode() -> None:
    model = Residual().eval()
    images = torch.randn(IMAGES)
    expected = model.by_hand(images)["norm"]
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode, FeatureTaps(model, ["norm"]) as taps:
            model(images)
        assert not taps["norm"].requires_grad
        torch.testing.assert_close(taps["norm"], expected)


def test_features_under_autocast_keep_their_type() -> None:
    model = Residual()
    with torch.autocast("cpu", torch.bfloat16), FeatureTaps(model, ["stem"]) as taps:
        model(torch.randn(IMAGES))
    assert taps["stem"].dtype == torch.bfloat16


def test_features_without_values() -> None:
    model = Residual().to("meta")
    with FeatureTaps(model, ["norm"]) as taps:
        model(torch.randn(IMAGES, device="meta"))
    assert taps["norm"].shape == (2, 4, 8, 12)
    assert taps["norm"].is_meta
    with FakeTensorMode(), FeatureTaps(Residual(), ["norm"]) as taps:
        taps._model(torch.randn(IMAGES))
    assert taps["norm"].shape == (2, 4, 8, 12)


@pytest.mark.parametrize("backward_inside", [False, True])
def test_features_of_a_checkpointed_model(backward_inside: bool) -> None:
    model = Residual().double()
    images = torch.randn(IMAGES, dtype=torch.float64)
    wanted = torch.autograd.grad(model.by_hand(images)["norm"].square().sum(), model.stem.weight)
    with FeatureTaps(model, ["norm"]) as taps:
        checkpoint(model, images, use_reentrant=False)
        loss = taps["norm"].square().sum()
        got = torch.autograd.grad(loss, model.stem.weight) if backward_inside else None
    got = got or torch.autograd.grad(loss, model.stem.weight)
    torch.testing.assert_close(got, wanted)
    assert len(taps.calls("norm")) == 1


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_checkpointing_runs_again_is_no_second_call(reentrant: bool) -> None:
    model = Residual()
    with FeatureTaps(model, ["norm"]) as taps:
        for _ in range(2):
            checkpoint(model, torch.randn(IMAGES, requires_grad=True), use_reentrant=reentrant).sum().backward()
    assert len(taps.calls("norm")) == 2
    assert taps["norm"].requires_grad == (not reentrant)  # reentrant: it ran under no_grad, as PyTorch documents


def test_other_threads_are_not_listened_to() -> None:
    model = Residual()
    images = torch.randn(4, *IMAGES)
    results: list[FeatureTaps] = []

    def work(first: Tensor, second: Tensor) -> None:
        with FeatureTaps(model, ["norm"]) as taps:
            model(first)
            meeting.wait(timeout=30)
            model(second)
            meeting.wait(timeout=30)
        results.append(taps)

    meeting = threading.Barrier(2)
    model.eval()
    threads = [threading.Thread(target=work, args=pair) for pair in (images[:2], images[2:])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [[model.by_hand(image)["norm"] for image in pair] for pair in (images[:2], images[2:])]
    if not torch.equal(results[0].calls("norm")[0], expected[0][0]):
        results.reverse()
    for taps, features in zip(results, expected, strict=True):
        torch.testing.assert_close(taps.calls("norm"), features)
    assert count_hooks(model) == 0
    assert "forward" not in model.norm.__dict__


def test_blocks_that_overlap_leave_nothing_behind() -> None:
    model = Residual()
    images = torch.randn(IMAGES)
    first, second = FeatureTaps(model, ["norm"]), FeatureTaps(model, ["norm", ""])
    first.__enter__()
    model(images)
    second.__enter__()
    model(images)
    first.__exit__(None)
    model(images)
    second.__exit__(None)
    assert [len(first.calls("norm")), len(second.calls("norm")), len(second.calls(""))] == [2, 2, 2]
    assert count_hooks(model) == 0
    assert not any("forward" in module.__dict__ for module in model.modules())


def test_features_inside_functional_call_and_vmap() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
    weights = {name: (value * 2).detach().requires_grad_() for name, value in model.named_parameters()}
    inputs = torch.randn(5, 2, 3)
    with FeatureTaps(model, ["0"]) as taps:
        functional_call(model, weights, (inputs[0],))
    (got,) = torch.autograd.grad(taps["0"].square().sum(), weights["0.bias"])
    torch.testing.assert_close(got, 2 * F.linear(inputs[0], weights["0.weight"], weights["0.bias"]).sum(dim=0))

    def tapped(one: Tensor) -> Tensor:
        with taps:
            model(one)
        return taps["0"]  # type: ignore[no-any-return]

    torch.testing.assert_close(torch.vmap(tapped)(inputs), model[0](inputs))
    with pytest.raises(TapError, match=r"'0' ran inside torch.vmap; read it there"):
        taps["0"]
