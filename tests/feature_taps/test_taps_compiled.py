"""Taps and torch.compile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from feature_taps.tapped import COMPILING, IMAGES, Residual, compiled, compiled_in_place, compiled_within, count_hooks
from torch import Tensor, nn

from mmdistill import FusedPaths, MPSDFusion, Pair
from mmdistill.feature_taps import FeatureTaps, TapError

pytestmark = COMPILING


class CountingBackend:
    """Runs the graph as it is, and counts how many were compiled, and their nodes."""

    def __init__(self) -> None:
        self.graphs = 0
        self.nodes: list[int] = []

    def __call__(self, graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        self.graphs += 1
        self.nodes.append(len(graph.graph.nodes))
        return graph.forward


def test_a_compiled_model_compiles_once_with_taps_and_once_without() -> None:
    backend = CountingBackend()
    model = Residual()
    run = torch.compile(model, backend=backend, fullgraph=True)
    taps = FeatureTaps(run, ["norm", "branch.0"])
    for _ in range(12):
        with taps:
            run(torch.randn(IMAGES))
            run(torch.randn(IMAGES))
        assert len(taps.calls("norm")) == 2
    with taps:
        for _ in range(12):
            run(torch.randn(IMAGES))
    assert len(taps.calls("branch.0")) == 12
    assert backend.graphs == 1
    images = torch.randn(IMAGES)
    output = run(images)
    assert backend.graphs == 2
    assert len(taps.calls("branch.0")) == 12
    torch.testing.assert_close(output, model.by_hand(images)[""])


def test_new_taps_at_each_step_compile_once_too() -> None:
    backend = CountingBackend()
    run = torch.compile(Residual(), backend=backend, fullgraph=True)
    for copy in [True, False] * 6:
        with FeatureTaps(run, ["norm"], copy=copy) as taps:
            run(torch.randn(IMAGES))
        assert (taps["norm"] < 0).any()  # Compiled code copies in either case: the in-place ReLU left it alone.
    assert backend.graphs == 1


def test_a_graph_break_before_the_layer_is_no_obstacle() -> None:
    class Broken(Residual):
        def forward(self, images: Tensor) -> Tensor:
            images = self.stem(images)
            torch._dynamo.graph_break()
            return self.norm(images)  # type: ignore[no-any-return]

    run = compiled(Broken())
    taps = FeatureTaps(run, ["norm"])
    for _ in range(3):
        with taps:
            output = run(torch.randn(IMAGES))
        torch.testing.assert_close(taps["norm"], output)


@pytest.mark.slow
def test_validation_between_training_steps_of_any_batch_size() -> None:
    backend = CountingBackend()
    run = torch.compile(Residual(), backend=backend, fullgraph=True, dynamic=True)
    taps = FeatureTaps(run, ["norm", "branch.1"])
    for batch in (2, 5, 3, 2, 4):
        images = torch.randn(batch, *IMAGES[1:])
        for train in (True, False):
            run.train(train)
            with taps:
                output = run(images)
            assert [len(taps.calls(name)) for name in taps] == [1, 1]
            if not train:
                torch.testing.assert_close(taps["norm"], run.by_hand(images)["norm"])
                torch.testing.assert_close(output, run.by_hand(images)[""])
        with torch.no_grad():
            run(images)
    assert backend.graphs == 3  # training with taps, validation with taps, validation without


MODELS: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "compiled": (lambda: compiled(Residual()), "norm"),
    "deep inside": (lambda: compiled(Residual()), "branch.1"),
    "without parameters": (lambda: compiled(nn.Sequential(nn.Identity(), nn.ReLU())), "0"),
    "a container": (lambda: compiled(Residual()), "branch"),
    "in place": (lambda: compiled_in_place(Residual()), "norm"),
    "one of torch's own": (lambda: compiled(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())), "0"),
    "one of torch's own, itself": (lambda: compiled(nn.Conv2d(3, 4, 1)), ""),
    "a part": (lambda: compiled_within(Residual()), "branch.0"),
    "in a wrapper": (lambda: nn.DataParallel(compiled(Residual())), "norm"),
    "around a wrapper": (lambda: compiled(nn.DataParallel(Residual())), "norm"),
}


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("called_before", [False, True])
@pytest.mark.slow
def test_with_taps_without_and_with_again(case: str, called_before: bool) -> None:
    build, name = MODELS[case]
    run, images = build(), torch.randn(IMAGES)
    taps = FeatureTaps(run, [name])
    if called_before:
        taps = FeatureTaps(getattr(run, "_orig_mod", run), [name])  # and made over the model as it is
        run(images)
    for _ in range(2):
        with taps:
            run(images)
            run(images)
        assert [len(feature) for feature in taps.calls(name)] == [len(images)] * 2
        taps.clear()
        run(images)
        with pytest.raises(TapError, match=r"did not run since clear\(\)"):
            taps[name]
    assert count_hooks(run) == 0
    assert not any("forward" in module.__dict__ for module in run.modules() if not hasattr(module, "_orig_mod"))


@pytest.mark.slow
def test_code_without_taps_is_kept_and_is_as_if_there_were_none() -> None:
    untapped, backend = CountingBackend(), CountingBackend()
    images = torch.randn(IMAGES)
    torch.compile(Residual(), backend=untapped, fullgraph=True)(images)
    torch.compiler.reset()
    run = torch.compile(Residual(), backend=backend, fullgraph=True)
    for _ in range(12):
        with FeatureTaps(run, ["norm", "branch.0"]):
            run(images)
        run(images)
    assert backend.nodes[1:] == untapped.nodes
    assert backend.nodes[0] > untapped.nodes[0]


def test_two_taps_on_one_compiled_layer() -> None:
    run = torch.compile(Residual(), backend="eager", fullgraph=True)
    images = torch.randn(IMAGES)
    run(images)
    first, second = FeatureTaps(run, ["norm"]), FeatureTaps(run, ["norm", "branch"])
    for _ in range(2):
        with first:
            run(images)
            with second:
                run(images)
            run(images)
        run(images)
        assert len(first.calls("norm")) == 3
        assert len(second.calls("norm")) == len(second.calls("branch")) == 1


def test_fused_paths_and_other_choices_of_compiled_code() -> None:
    fusion = MPSDFusion(4)
    run = torch.compile(fusion, backend="eager", fullgraph=True)
    images = Pair(*torch.randn(2, 2, 4, 5, 6))
    expected = fusion(images)
    run(images)
    with FeatureTaps(run, [""]) as whole, FeatureTaps(run, [""], select={"": chosen}) as parts:
        output = run(images)
    assert isinstance(whole[""], FusedPaths)
    for got, also, want in zip(whole[""], output, expected, strict=True):
        torch.testing.assert_close(got, want)
        torch.testing.assert_close(also, want)
    torch.testing.assert_close(parts[""], {"map": expected.fused, "shares": (expected.weights[:, :2],)})


def chosen(output: FusedPaths) -> dict[str, object]:
    return {"map": output.fused, "shares": (output.weights[:, :2],)}


def test_a_forward_that_was_replaced_on_the_layer_is_put_back() -> None:
    model = Residual()
    norm = model.norm.forward
    model.norm.forward = lambda images: norm(images) * 2  # type: ignore[method-assign]
    replaced = model.norm.forward
    run = compiled(model)
    images = torch.randn(IMAGES)
    for _ in range(2):
        run(images)
        with FeatureTaps(run, ["norm"]) as taps:
            run(images)
        torch.testing.assert_close(taps["norm"], norm(model.stem(images)) * 2)
        assert model.norm.__dict__["forward"] is replaced
