"""Every loss and block on a GPU is what it is on the processor; these run wherever PyTorch finds a GPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from harness.case import Case, Sizes, Step, assert_finite, assert_same
from harness.cases import CASES, every_case, over
from torch import nn
from torch_warnings import default_compiler

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that PyTorch can use")

GPU = "cuda"
SIZES = Sizes(batch=2, height=12, width=16, student=4, teacher=6)
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
COMPOSED = [case for case in CASES if case.name in ("MPSDFusion-softmax-path", "SCFDLoss-sem-cem", "CMDLoss")]


@pytest.fixture(autouse=True)
def _whole_digits() -> Iterator[None]:
    """Convolutions in float32 with float32's digits, which PyTorch rounds on a GPU by default."""
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield


def step_on(
    device: str,
    case: Case,
    dtype: torch.dtype,
    *,
    scale: float = 1.0,
    train: bool = False,
    around: Callable[[nn.Module], Callable[..., object]] | None = None,
) -> Step:
    """Take a step on a device, perhaps with something around the module; what comes back is on the processor."""
    module = case.module(SIZES, dtype, train=train).to(device)
    tensors = case.tensors(SIZES, dtype, scale=scale)
    tensors = case.attached({name: values.to(device) for name, values in tensors.items()})
    step = case.step(module, tensors, through=None if around is None else around(module))
    for values in (*step.outputs.values(), *step.gradients.values()):
        assert values.device.type == device
    return Step(*({name: value.cpu() for name, value in part.items()} for part in (step.outputs, step.gradients)))


def autocast(dtype: torch.dtype) -> Callable[[nn.Module], Callable[..., object]]:
    """Call a module under autocast on the GPU."""

    def around(module: nn.Module) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            with torch.autocast(GPU, dtype):
                return module(*args, **kwargs)

        return call

    return around


@every_case
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)], ids=["float64", "float32"]
)
def test_values_and_gradients_are_the_processors(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    expected = step_on("cpu", case, dtype)
    assert_same(step_on(GPU, case, dtype), expected, rtol=tolerance, atol=tolerance)


@every_case
@HALVES
@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_autocast_is_finite(case: Case, dtype: torch.dtype, scale: float) -> None:
    assert_finite(step_on(GPU, case, torch.float32, scale=scale, train=True, around=autocast(dtype)))


@every_case
@HALVES
def test_autocast_loses_no_more_than_digits(case: Case, dtype: torch.dtype) -> None:
    expected = step_on("cpu", case, torch.float32).outputs
    for name, value in step_on(GPU, case, torch.float32, around=autocast(dtype)).outputs.items():
        error = (value.double() - expected[name].double()).abs().max()
        assert error <= 0.05 * expected[name].abs().max() + 1e-6, name


@default_compiler
@over(COMPOSED)
def test_the_default_compiler_agrees(case: Case) -> None:
    torch.compiler.reset()
    expected = step_on("cpu", case, torch.float64)
    compiled = step_on(GPU, case, torch.float64, around=lambda module: torch.compile(module, fullgraph=True))
    assert_same(compiled, expected, rtol=1e-7, atol=1e-9)


@over([case for case in CASES if case.name in ("SCFDLoss-sem-cem", "ReviewKDLoss")])
def test_shared_statistics_of_one_process_are_its_own(case: Case, tmp_path: Path) -> None:
    if not dist.is_nccl_available():
        pytest.skip("this PyTorch is built without NCCL")
    expected = step_on(GPU, case, torch.float32, train=True)
    dist.init_process_group("nccl", init_method=(tmp_path / "meet").as_uri(), rank=0, world_size=1)
    try:
        shared = step_on(GPU, case, torch.float32, train=True, around=shared_statistics)
    finally:
        dist.destroy_process_group()
    assert_same(shared, expected, rtol=1e-4, atol=1e-4)


def shared_statistics(module: nn.Module) -> nn.Module:
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    assert any(isinstance(each, nn.SyncBatchNorm) for each in converted.modules())
    return converted
