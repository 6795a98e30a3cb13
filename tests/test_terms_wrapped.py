"""Terms inside wrappers, compilers and DistributedDataParallel."""

from __future__ import annotations

import copy
import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from helpers import IS_DICT, scalar, two_terms
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mmdistill import Terms

# How each wrapper builds what a module returned anew, from its own source: of a mapping, or by its type.


def lightning(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(outputs, Mapping):
        return type(outputs)(OrderedDict((name, lightning(value, change)) for name, value in outputs.items()))
    return change(outputs)


def accelerate_and_transformers(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(outputs, Mapping):
        return type(outputs)({name: accelerate_and_transformers(value, change) for name, value in outputs.items()})
    return change(outputs)


def data_parallel(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(outputs, dict):
        return type(outputs)((name, data_parallel(outputs[name], change)) for name in outputs)
    return change(outputs)


def fsdp1(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(outputs, OrderedDict):
        built = outputs.__class__()
        for name, value in outputs.items():
            built[name] = fsdp1(value, change)
        return built
    return change(outputs)


def in_place(outputs: Any, change: Callable[[Tensor], Tensor]) -> Any:
    for name in outputs:
        outputs[name] = change(outputs[name])
    return outputs


WRAPPERS = [lightning, accelerate_and_transformers, data_parallel, fsdp1, in_place, pytree.tree_map]
MARKED = [pytest.param(each, marks=IS_DICT if each in (data_parallel, fsdp1) else ()) for each in WRAPPERS]


@pytest.mark.parametrize("rebuild", MARKED)
def test_it_is_built_anew_by_wrappers_with_its_total_and_gradient(rebuild: Callable[..., Terms]) -> None:
    x, y = scalar(3.0), scalar(7.0)
    kd, md = Terms.summed("kd", distillation=x * x), Terms.summed("md", distillation=y)
    terms = Terms.weighted((0.5, kd), (2.0, md))
    double: Callable[[Tensor], Tensor] = lambda value: 2 * value  # noqa: E731
    got = rebuild(double, terms) if rebuild is pytree.tree_map else rebuild(terms, double)
    assert type(got) is Terms
    assert list(got) == ["kd.distillation", "md.distillation"]
    assert got["md.distillation"].item() == 14
    assert got.weights == {"kd.distillation": 0.5, "md.distillation": 2.0}
    assert got.total.item() == 2 * (0.5 * 9 + 2 * 7)
    got.total.backward()
    assert x.grad is not None
    assert x.grad.item() == 2 * 0.5 * 2 * 3
    # A second time, and combined with others: the name is there too.
    again = rebuild(double, kd) if rebuild is pytree.tree_map else rebuild(kd, double)
    assert list(Terms.weighted((1.0, again), (1.0, md))) == ["kd.distillation", "md.distillation"]


@IS_DICT
def test_data_parallel_gathers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stacked:
        apply = staticmethod(lambda _device, _dim, *parts: torch.stack(parts))

    from torch.nn.parallel import scatter_gather

    monkeypatch.setattr(scatter_gather, "Gather", Stacked)  # PyTorch's own takes tensors of GPUs alone
    got = scatter_gather.gather([two_terms(), two_terms()], "cpu")
    assert type(got) is Terms
    assert got.total.tolist() == [15.5, 15.5]
    got.total.mean().backward()


def test_what_is_not_a_tensor_any_more_has_a_total_too() -> None:
    numbers = Terms({name: value.detach().numpy() for name, value in two_terms().items()})
    assert float(numbers.total) == 15.5


def test_without_a_dict_as_before_pytorch_2_7(monkeypatch: pytest.MonkeyPatch) -> None:
    import mmdistill.terms as module

    source = module.__spec__
    assert source is not None
    monkeypatch.setattr(torch, "__version__", "2.6.0")
    monkeypatch.setattr(pytree, "register_pytree_node", lambda *_, **__: None)
    monkeypatch.setattr(torch.serialization, "add_safe_globals", lambda _: None)
    older = importlib.util.module_from_spec(source)
    assert source.loader is not None
    source.loader.exec_module(older)
    x = scalar(3.0)
    terms = older.Terms.weighted((0.5, older.Terms.summed("kd", a=x)), (2.0, older.Terms.summed("md", a=scalar(7.0))))
    assert not isinstance(terms, dict)
    assert (terms.copy() | older.Terms.summed("x", x=x)).total.item() == 18.5
    assert [str(name) for name in reversed(terms)] == ["md.a", "kd.a"]
    assert dict(terms) == terms.parts
    for rebuild in (lightning, accelerate_and_transformers, in_place):
        got = rebuild(terms, lambda value: 2 * value)
        assert type(got) is older.Terms
    assert got.total.item() == 31
    # Lightning copies a dataclass with its values in the memo, and sets each of them.
    copied = copy.deepcopy(terms, {id(terms._values): terms._values})
    copied._values = {name: value / 2 for name, value in terms._values.items()}
    assert copied.total.item() == 15.5


class TwoTerms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> Terms:
        y = self.linear(x)
        kd, md = Terms.summed("kd", mean=y.mean()), Terms.summed("md", mean=y.square().mean())
        return Terms.weighted((0.5, kd), (2.0, md))


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
def test_it_leaves_a_fully_compiled_graph_unchanged() -> None:
    module, x = TwoTerms(), torch.randn(4, 3)
    expected, got = module(x), torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    assert isinstance(got, Terms)
    torch.testing.assert_close(got.as_dict(), expected.as_dict())
    assert got.weights == expected.weights
    got.total.backward()
    assert module.linear.weight.grad is not None


@IS_DICT
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rebuild", [lightning, accelerate_and_transformers, data_parallel, fsdp1])
@pytest.mark.slow
def test_a_wrapper_inside_a_graph_keeps_the_weights(rebuild: Callable[..., Terms]) -> None:
    module, x = TwoTerms(), torch.randn(4, 3)

    def wrapped(x: Tensor) -> Terms:
        return rebuild(module(x), lambda value: 2 * value)

    expected = module(x)
    try:
        got = torch.compile(wrapped, fullgraph=True, backend="aot_eager")(x)
    except torch._dynamo.exc.Unsupported:  # refused, not wrong
        pytest.skip("this version of PyTorch compiles no names of a kind of their own")
    assert got.weights == expected.weights
    torch.testing.assert_close(got.total, 2 * expected.total)


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
def test_compiled_code_takes_it_and_goes_on_after_a_break() -> None:
    module, x = TwoTerms(), torch.randn(4, 3)

    def total(terms: Terms) -> Tensor:
        return terms.total + sum(value for _, value in terms.items())

    torch.testing.assert_close(torch.compile(total, fullgraph=True, backend="eager")(module(x)), total(module(x)))

    def broken(x: Tensor) -> Terms:
        terms = module(x)
        torch._dynamo.graph_break()
        return Terms.weighted((3.0, terms), (1.0, Terms.summed(x=x.sum())))

    got, expected = torch.compile(broken, backend="eager")(x), broken(x)
    assert type(got) is Terms
    assert got.weights == expected.weights
    torch.testing.assert_close(got.as_dict(), expected.as_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{}, {"find_unused_parameters": True}, {"static_graph": True}])
def test_distributed_data_parallel_sees_the_tensors_inside(options: dict[str, bool], tmp_path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        module, x = TwoTerms(), torch.randn(4, 3)
        module(x).total.backward()
        assert module.linear.weight.grad is not None
        expected = module.linear.weight.grad.clone()
        module.zero_grad()
        parallel = nn.parallel.DistributedDataParallel(module, **options)
        for _ in range(2):
            module.zero_grad()
            parallel(x).total.backward()
            torch.testing.assert_close(module.linear.weight.grad, expected)
        del parallel  # before its group: PyTorch can wait for ever when the group goes first
    finally:
        torch.distributed.destroy_process_group()
