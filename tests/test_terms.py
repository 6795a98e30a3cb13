import pytest
import torch
from torch import nn

from mmdistill import Terms


def test_it_is_a_mapping_whose_total_carries_gradient() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    terms = Terms.summed(first=x * x, second=2 * x)
    assert list(terms) == ["first", "second"]
    assert dict(terms) == {"first": terms["first"], "second": terms["second"]}
    assert terms.total.item() == 15
    terms.total.backward()
    assert x.grad is not None
    assert x.grad.item() == 8


def test_weights_scale_the_total_and_leave_the_parts() -> None:
    one, two = Terms.summed(a=torch.tensor(1.0)), Terms.summed(b=torch.tensor(10.0), c=torch.tensor(5.0))
    terms = Terms.weighted((0.5, one), (2.0, two))
    assert {name: value.item() for name, value in terms.items()} == {"a": 1, "b": 10, "c": 5}
    assert terms.total.item() == 30.5


class TwoTerms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> Terms:
        y = self.linear(x)
        return Terms.weighted((0.5, Terms.summed(mean=y.mean())), (2.0, Terms.summed(square=y.square().mean())))


@pytest.mark.filterwarnings("ignore")
def test_it_leaves_a_fully_compiled_graph_unchanged() -> None:
    module, x = TwoTerms(), torch.randn(4, 3)
    expected, got = module(x), torch.compile(module, fullgraph=True, backend="aot_eager")(x)
    assert isinstance(got, Terms)
    torch.testing.assert_close(dict(got), dict(expected))
    got.total.backward()
    assert module.linear.weight.grad is not None


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
