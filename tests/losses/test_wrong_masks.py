"""Masks that do not fit are refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mmdistill import (
    Pair,
    SCFDLoss,
    ShapeError,
)
from mmdistill.losses import FitNetsLoss, KDLoss, ModalityDistillationLoss, ReviewKDLoss

GOOD = torch.ones(2, 1, 4, 6, dtype=torch.bool)


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (GOOD.float(), "mask: dtype: expected torch.bool, .*, got torch.float32"),
        (GOOD.long(), "mask: dtype: expected torch.bool, .*, got torch.int64"),
        (GOOD[:, 0], r"mask: axes: expected 4 \(B, 1, H, W\), got \(2, 4, 6\)"),
        (GOOD[:1], "mask: batch: expected 2 as student level 1, got 1"),
        (GOOD.expand(2, 3, 4, 6), "mask: channels: expected 1, got 3"),
        (GOOD[:, :, :1], "mask: height: expected 4 as student level 1, got 1"),
        (GOOD[..., :5], "mask: width: expected 6 as student level 1, got 5"),
        (GOOD.to("meta"), "mask: device: expected cpu as student level 1, got meta"),
        (GOOD, "mask: levels: expected a mask per level, or all of 4x6, got .*student level 2 of 2x3"),
        ([GOOD], "mask: levels: expected 2, got 1"),
        ([GOOD, GOOD], "mask level 2: height: expected 2 as student level 2, got 4"),
        ([GOOD, "no"], r"mask level 2: type: expected a tensor \(B, 1, H, W\), got str"),
        (True, r"mask: type: expected a tensor \(B, 1, H, W\), or a sequence of one per level, got bool"),
        ([None, torch.zeros(2, 1, 2, 3, dtype=torch.bool)], "mask level 2: values: expected at least one .*, got none"),
    ],
)
def test_a_mask_that_does_not_fit_is_named(mask: Any, says: str) -> None:
    student, teacher = (
        [torch.randn(2, c, 4, 6, requires_grad=True), torch.randn(2, c, 2, 3, requires_grad=True)] for c in (2, 3)
    )
    losses = (FitNetsLoss((2, 2), (3, 3)), ReviewKDLoss((2, 2), (3, 3)), ModalityDistillationLoss((2, 2), (3, 3)))
    for loss in losses:
        before = {name: values.clone() for name, values in loss.state_dict().items()}
        with pytest.raises(ShapeError, match=f"^{type(loss).__name__}: {says}$"):
            loss(student, teacher, mask=mask)
        assert all(torch.equal(values, before[name]) for name, values in loss.state_dict().items())
    scfd = SCFDLoss((2, 2), (3, 3), interaction=("sem", "cem"))
    pairs = Pair(student, [level + 1 for level in student]), Pair(teacher, [level + 1 for level in teacher])
    with pytest.raises(ShapeError, match=f"^SCFDLoss: {says}$"):
        scfd(*pairs, mask=mask)
    with pytest.raises(ShapeError, match=f"^SCFDLoss: {says.replace('mask', 'mask tir', 1)}$"):
        scfd(*pairs, mask=Pair(None, mask))


def test_what_cannot_be_masked_says_so() -> None:
    student, teacher = torch.randn(2, 2, 4, 6, requires_grad=True)
    with pytest.raises(ValueError, match="KDLoss: mask: expected None with over='logits'"):
        KDLoss()(student, teacher, mask=torch.ones(2, 4, 6, dtype=torch.bool))
    level = torch.randn(2, 3, 4, 6)
    with pytest.raises(ShapeError, match=r"FitNetsLoss: mask: type: .*, got Pair"):
        FitNetsLoss((3,), (3,))([level.requires_grad_()], [level + 1], mask=Pair(GOOD, GOOD))
