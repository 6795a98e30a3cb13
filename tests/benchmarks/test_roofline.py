"""The roofline and the profile of a call: counts by hand and by PyTorch, shares, kinds of kernels."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CPU = torch.device("cpu")


@pytest.fixture
def roofline(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("parts.gpu.roofline")


@pytest.fixture
def profile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("parts.gpu.profile")


def test_counted_operations_by_hand_and_by_pytorch(roofline: ModuleType) -> None:
    layer, images = nn.Conv2d(3, 4, 3, bias=False), torch.randn(2, 3, 6, 7, requires_grad=True)
    (forward,) = roofline.count_operations(lambda: layer(images))
    out = 2 * 4 * 4 * 5
    assert forward == roofline.Operation(out * 27, 4 * (2 * 3 * 6 * 7 + 4 * 27 + out), "float32")

    network = nn.Sequential(layer, nn.Flatten(), nn.Linear(80, 5))

    def step() -> None:
        network(images).sum().backward()

    with FlopCounterMode(display=False) as counter:
        step()
    assert sum(each.multiply_adds for each in roofline.count_operations(step)) * 2 == counter.get_total_flops()
    with torch.autocast("cpu", torch.bfloat16):
        (half,) = roofline.count_operations(lambda: layer(images))
    assert (half.precision, half.bytes) == ("bfloat16", forward.bytes // 2)


def test_shares_of_the_ceilings_by_hand(roofline: ModuleType) -> None:
    # The first takes 2 s to compute and 1 s to move, the second 1 s and 4 s.
    operations = [roofline.Operation(200, 50, "bfloat16"), roofline.Operation(10, 200, "float32")]
    shares = roofline.shares_of_ceilings(operations, 12.0, {"bfloat16": 100, "float32": 10, "bytes": 50})
    assert shares["of the arithmetic"] == pytest.approx(3 / 12)
    assert shares["of the bandwidth"] == pytest.approx(5 / 12)
    assert shares["of the roofline"] == pytest.approx(6 / 12)
    assert (shares["multiply-adds"], shares["bytes"]) == (210, 250)


def test_ceilings_have_the_requested_sizes(roofline: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roofline, "time_call", lambda call, *_, **__: call() is None or 0.5)
    assert roofline.ceilings(CPU, size=10, copy_bytes=100) == {"float32": 2000, "bfloat16": 2000, "bytes": 400}


def test_a_round_takes_its_seconds(roofline: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(roofline.time, "perf_counter", lambda: clock[0])
    calls = []

    def call() -> None:
        calls.append(1)
        clock[0] += 0.1

    assert roofline.time_call(call, CPU, rounds=3, seconds=0.5) == pytest.approx(0.1)
    assert len(calls) == 3 + 3 * 5


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64", "convolutions"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", "convolutions"),
        ("void cudnn::bn_fw_tr_1C11_singleread<float, 512, true>", "batch norm"),
        ("void cudnn::ops::nchwToNhwcKernel<__nv_bfloat16, float>", "copies"),
        ("void at::native::elementwise_kernel<128, 4, at::native::direct_copy_kernel_cuda>", "copies"),
        (
            "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>",
            "element-wise operations",
        ),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", "sums"),
        ("void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor>", "optimizer"),
        ("Memcpy HtoD (Pageable -> Device)", "host transfers"),
        ("something_new", "other"),
    ],
)
def test_category_of_a_kernel(name: str, kind: str, profile: ModuleType) -> None:
    assert profile.category(name).startswith(kind)


def test_overlapping_spans_count_once(profile: ModuleType) -> None:
    assert profile.covered_time([(5, 6), (0, 2), (1, 3), (1.5, 2)]) == 4


def test_shares_of_a_call_add_up(profile: ModuleType) -> None:
    layer, images = nn.Conv2d(3, 8, 3), torch.randn(1, 3, 40, 40)
    found = profile.device_profile(lambda: layer(images), CPU, calls=2, seconds=0)
    assert sum(found["shares"].values()) == pytest.approx(1, abs=0.01)
    assert next(iter(found["shares"])) == "convolutions and matrix products"
    assert found["idle"] is None
