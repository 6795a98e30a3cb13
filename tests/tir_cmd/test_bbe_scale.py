"""The scale and the range of BBE's targets."""

from typing import Any

import numpy as np
import pytest
import torch
from bbe_cases import Given, states
from torch import Tensor

from mmdistill import BBEDistiller, NotFiniteError, ShapeError


def test_a_scale_is_required_and_a_wrong_one_is_named() -> None:
    with pytest.raises(TypeError, match="scale"):
        BBEDistiller(states)  # type: ignore[call-arg]
    for scale in (None, "percent", 1):
        with pytest.raises(ValueError, match=r"BBEDistiller: scale: expected 'unit' .* or 'signed' .* 2 IoU - 1"):
            BBEDistiller(states, scale=scale)  # type: ignore[arg-type]
    for scale in (None, "unit", "signed"):  # a state has none
        assert BBEDistiller(states, target="state", scale=scale).scale == scale  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", ["unit", "signed"])
def test_a_perfect_predictor_has_no_error_on_its_own_scale_and_some_on_the_other(scale: Any) -> None:
    given = Given()
    overlaps = torch.from_numpy(given.overlaps)
    own, other = (overlaps, 2 * overlaps - 1) if scale == "unit" else (2 * overlaps - 1, overlaps)
    for target in (given.box, overlaps):
        assert given.terms(BBEDistiller(lambda *_: own, scale=scale), target)["box"] < 1e-20
        # 2 IoU - 1 and IoU are 1 - IoU apart.
        expected = float(np.mean((1 - given.overlaps) ** 2))
        assert given.terms(BBEDistiller(lambda *_: other, scale=scale), target)["box"].item() == pytest.approx(expected)


@pytest.mark.parametrize("scale", ["unit", "signed"])
@pytest.mark.parametrize("form", ["(..., P)", "(..., P, 1)"])
def test_overlaps_out_of_range_are_refused_with_what_was_found(scale: Any, form: str) -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale=scale)
    for low, high in ((-0.25, 1.0), (0.0, 1.001), (-1.0, 90.0)):
        overlaps = torch.linspace(low, high, 12, dtype=torch.float64).reshape(2, 6)
        target = overlaps if form == "(..., P)" else overlaps[..., None]
        message = f"BBEDistiller: target: values: expected overlaps .* from 0 to 1 .*, got {low:.4g} to {high:.4g}$"
        with pytest.raises(ShapeError, match=message):
            given.terms(loss, target)
        unchecked = BBEDistiller(given.predictor, scale=scale, check_values=False)
        assert given.terms(unchecked, target).total.isfinite()
    # DiMP's own data have the proposals' overlaps on its scale already.
    with pytest.raises(ShapeError, match="target: values: expected overlaps"):
        given.terms(loss, torch.linspace(-0.8, 1, 12, dtype=torch.float64).reshape(2, 6))
    with pytest.raises(NotFiniteError, match="target: values: expected finite, got 12 NaN"):
        given.terms(loss, torch.full((2, 6), torch.nan, dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_rounding_is_no_overlap_out_of_range(dtype: torch.dtype) -> None:
    given = Given()
    loss = BBEDistiller(given.predictor, scale="signed")
    step = max(1e-7, torch.finfo(dtype).eps)
    overlaps = torch.tensor([[0.0, 1.0, 1 + step, -step / 2, 0.5, 1.0]] * 2, dtype=torch.float64).to(dtype)
    assert overlaps.max() >= 1
    assert given.terms(loss, overlaps).total.isfinite()


@pytest.mark.parametrize("target", ["iou", "state"])
@pytest.mark.parametrize("sides", [(0.0, 1.0), (1.0, -3.0)])
@pytest.mark.parametrize("form", ["(..., 4)", "(..., 1, 4)"])
def test_a_target_box_without_area_is_refused(target: Any, sides: tuple[float, float], form: str) -> None:
    given = Given()
    given.box[1, 2:] = torch.tensor(sides, dtype=torch.float64)
    box = given.box if form == "(..., 4)" else given.box[:, None]
    loss = BBEDistiller(given.predictor, scale="unit", target=target)
    with pytest.raises(
        ShapeError, match=f"target: values: expected w and h of x y w h above 0, got {min(sides):.4g} to"
    ):
        given.terms(loss, box)


def test_the_range_is_checked_in_the_one_read_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each read makes the host wait for the GPU."""
    reads: list[str] = []
    for name in ("__bool__", "__float__", "__int__", "item", "tolist"):
        original = getattr(torch.Tensor, name)

        def counted(tensor: Tensor, *args: Any, name: str = name, original: Any = original) -> Any:
            reads.append(name)
            return original(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    given = Given()
    for target in (given.box, torch.from_numpy(given.overlaps)):
        for check_values, expected in ((True, 1), (False, 0)):
            loss = BBEDistiller(given.predictor, scale="unit", check_values=check_values)
            reads.clear()
            given.terms(loss, target).total.backward()
            assert len(reads) == expected
