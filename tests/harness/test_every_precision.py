"""Half precision: finite values and gradients, whatever the scale of the features."""

from __future__ import annotations

import pytest
import torch
from harness.block_cases import FUNCTIONS
from harness.case import Case, Sizes, Step, assert_finite
from harness.cases import CASES, every_case, over
from torch import Tensor, nn

from mmdistill import BBEDistiller, MPSDLoss, SCFDLoss, ShapeError

HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
SCALES = pytest.mark.parametrize(
    "scale",
    [pytest.param(1e-3, marks=pytest.mark.slow), 1.0, pytest.param(30.0, marks=pytest.mark.slow), 1e3],
    ids=["1e-3", "1", "30", "1e3"],
)
FEATURES = pytest.mark.parametrize("wide", [True, False], ids=["float32-features", "half-features"])
SIZES = Sizes(batch=2, height=12, width=16, student=4, teacher=6)
LARGE = 1e3
ALPHA = {SCFDLoss: 1e-3, MPSDLoss: 1e-3}
"""CMD's weight of the losses that are sums; without it, a gradient at scale 30 may exceed float16."""


@every_case
@HALVES
@SCALES
@FEATURES
def test_autocast_is_finite(case: Case, dtype: torch.dtype, scale: float, wide: bool) -> None:
    overflows = dtype == torch.float16 and scale == LARGE
    if overflows and not wide:
        case.applies("large float16")
    module = case.module(SIZES, torch.float32, train=True)
    tensors = case.tensors(SIZES, torch.float32 if wide else dtype, scale=scale)
    assert_finite(_step(case, module, tensors, autocast=dtype, overflows=overflows))


@every_case
@HALVES
@SCALES
def test_a_module_in_half_precision_is_finite(case: Case, dtype: torch.dtype, scale: float) -> None:
    overflows = dtype == torch.float16 and scale == LARGE
    if overflows:
        case.applies("large float16")
        case.applies("large float16 module")
    module, tensors = case.module(SIZES, dtype, train=True), case.tensors(SIZES, dtype, scale=scale)
    assert_finite(_step(case, module, tensors, overflows=overflows))


FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
OWN = over([case for case in CASES if case not in FUNCTIONS and case.subject is not BBEDistiller])
"""Not BBE, whose predictor is the caller's."""


@OWN
@pytest.mark.parametrize("autocast", [None, torch.bfloat16, torch.float16], ids=str)
def test_any_type_of_weights_and_features_is_right_or_refused(case: Case, autocast: torch.dtype | None) -> None:
    expected = case.step(case.module(), case.tensors())
    for weights in FLOATS:
        module = case.module(dtype=weights)
        for features in FLOATS:
            refusal = None
            try:
                step = case.step(module, case.tensors(dtype=features), autocast=autocast)
            except ShapeError as error:
                refusal = error
            if refusal is not None:
                assert refusal.axis == "dtype"
                assert weights != features or autocast not in (None, weights)
            else:
                assert_finite(step)
                for name, value in step.outputs.items():
                    torch.testing.assert_close(value.double(), expected.outputs[name], rtol=0.1, atol=0.1)


def _step(
    case: Case,
    module: nn.Module,
    tensors: dict[str, Tensor],
    *,
    autocast: torch.dtype | None = None,
    overflows: bool,
) -> Step:
    """Take a step; where the gradient itself may exceed float16, at the loss scale a GradScaler would settle at."""
    alpha, exponent = ALPHA.get(case.subject, 1.0), 0
    step = case.step(module, tensors, autocast=autocast, loss_scale=alpha)
    while overflows and exponent > -12 and not all(bool(x.isfinite().all()) for x in step.gradients.values()):
        exponent -= 4
        step = case.step(module, tensors, autocast=autocast, loss_scale=alpha * 2.0**exponent)
    assert any(bool(gradient.any()) for gradient in step.gradients.values()), "every gradient underflowed"
    return step
