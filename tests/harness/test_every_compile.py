"""Every loss and block passes torch.compile as one graph, with the value and the gradient of plain PyTorch."""

from __future__ import annotations

import pytest
import torch
from harness.baseline_cases import BASELINES
from harness.case import Case, Sizes, assert_same
from harness.cases import BLOCKS, CASES, over

from mmdistill import MPSDFusion, ShapeError

# PyTorch's own deprecations while it traces are not ours to answer for.
pytestmark = [pytest.mark.usefixtures("fresh_compiler"), pytest.mark.filterwarnings("ignore")]

# No two axes have one length, lest the compiler take them for the same.
FIRST = Sizes(batch=5, height=14, width=22, student=4, teacher=6)
SECOND = Sizes(batch=9, height=26, width=34, student=4, teacher=6)


# Quick for the papers' losses and one block; the losses compile the other blocks too.
@over(CASES, *({case.subject for case in [*BLOCKS, *BASELINES]} - {MPSDFusion}))
def test_one_graph_gives_the_eager_value_and_gradient(case: Case) -> None:
    module = case.module(FIRST)
    compiled = torch.compile(module, fullgraph=True, dynamic=False, backend="aot_eager")
    _assert_as_eager(case, module, compiled, FIRST)


@over(CASES)
@pytest.mark.slow
def test_one_graph_serves_every_size(case: Case) -> None:
    case.applies("every size")
    module = case.module(FIRST)
    compiled = torch.compile(module, fullgraph=True, dynamic=True, backend="aot_eager")
    _assert_as_eager(case, module, compiled, FIRST)
    with torch.compiler.set_stance("fail_on_recompile"):
        _assert_as_eager(case, module, compiled, SECOND)


@pytest.mark.slow
@over([case for case in CASES if case.name in ("MPSDFusion-softmax-path", "SCFDLoss-sem-cem", "CMDLoss")])
def test_the_default_compiler_agrees_too(case: Case) -> None:
    module = case.module(FIRST)
    _assert_as_eager(case, module, torch.compile(module, fullgraph=True), FIRST)


@over([case for case in CASES if case.name in ("SCFDLoss-sem-cem", "BBEDistiller-both", "BBEDistiller-state-features")])
def test_a_wrong_shape_is_named_by_compiled_code_too(case: Case) -> None:
    module, tensors = case.module(FIRST), case.tensors(FIRST)
    name = next(name for name, given in case.inputs.items() if given.role in ("teacher", "label"))
    for wrong in (tensors[name][:1], tensors[name][None]):
        with pytest.raises(ShapeError) as eager:
            case.call(module, tensors | {name: wrong})
        with pytest.raises(ShapeError) as compiled:
            case.call(torch.compile(module, backend="eager"), tensors | {name: wrong})
        assert str(compiled.value) == str(eager.value)


def _assert_as_eager(case: Case, module: torch.nn.Module, compiled: object, sizes: Sizes) -> None:
    tensors = case.tensors(sizes)
    got = case.step(module, tensors, through=compiled)  # type: ignore[arg-type]
    assert_same(got, case.step(module, tensors), rtol=1e-7, atol=1e-9)
