"""Taps and torch.compile."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from taps.tapped import COMPILING, IMAGES, Residual, compiled, compiled_in_place, compiled_within, count_hooks
from torch import Tensor, nn

from mmdistill.taps import FeatureTaps, TapError, TapWarning

pytestmark = COMPILING


class CountingBackend:
    """Runs the graph as it is, and counts how many were compiled."""

    def __init__(self) -> None:
        self.graphs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        self.graphs += 1
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


def test_a_compiled_validation_between_training_steps_is_no_obstacle() -> None:
    run = compiled(Residual())
    taps = FeatureTaps(run, ["norm"])
    for _ in range(3):
        run.train()
        with taps:
            run(torch.randn(IMAGES))
        assert len(taps.calls("norm")) == 1
        run.eval()
        with torch.no_grad():
            run(torch.randn(IMAGES))


COMPILED_BEFORE: dict[str, tuple[Callable[[], nn.Module], str]] = {
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


@pytest.mark.parametrize("case", COMPILED_BEFORE)
def test_what_was_called_compiled_before_is_refused(case: str) -> None:
    build, name = COMPILED_BEFORE[case]
    run = build()
    taps = FeatureTaps(run, [name])
    run(torch.randn(IMAGES))
    with pytest.raises(TapError, match=f"'{name}' already ran inside torch.compile"):
        taps.__enter__()
    assert count_hooks(run) == 0


def test_what_was_not_compiled_or_not_called_is_not_refused() -> None:
    images = torch.randn(IMAGES)
    compiled(Residual())(images)
    for other in (Residual(), compiled(Residual(channels=5))):
        with FeatureTaps(other, ["norm", "branch.0"]) as taps:
            other(images)
        assert taps.silent == []


def test_a_tapped_layer_outside_the_compiled_part_is_not_refused() -> None:
    model = compiled_within(Residual())
    model(torch.randn(IMAGES))
    with FeatureTaps(model, ["norm", ""]) as taps:
        model(torch.randn(IMAGES))
    assert taps.silent == []


def test_guards_on_hooks_are_the_cure_that_the_message_names() -> None:
    run = compiled(Residual())
    with torch._dynamo.config.patch(skip_nnmodule_hook_guards=False):
        run(torch.randn(IMAGES))
        with FeatureTaps(run, ["norm"]) as taps:
            run(torch.randn(IMAGES))
    assert len(taps.calls("norm")) == 1


def test_where_torch_cannot_be_asked_the_silence_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    run = compiled(Residual())
    run(torch.randn(IMAGES))
    monkeypatch.delattr("torch._dynamo.eval_frame._debug_get_cache_entry_list")
    with pytest.warns(TapWarning, match="never ran: 'norm'"), FeatureTaps(run, ["norm"]) as taps:
        run(torch.randn(IMAGES))
    with pytest.raises(TapError, match="compiled before, and compiled code skips hooks added later"):
        taps["norm"]
