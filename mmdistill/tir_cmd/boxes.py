"""What a box predictor is to say: overlaps or states, and the shapes in which they, and the proposals, may come.

Boxes ``x y w h`` as tensors: how much two of them overlap, and the state in which TIR-CMD regresses one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mmdistill._checks.shapes import check_floating, check_min_axes
from mmdistill._checks.values import ValueRange
from mmdistill._execution import detached
from mmdistill._numerics import to_float32
from mmdistill.errors import ShapeError


def intersection_over_union(first: Tensor, second: Tensor) -> Tensor:
    """Return the overlap of boxes, intersection over union, 0 to 1.

    Args:
        first: ``(..., 4)``, ``x y w h``.
        second: ``(..., 4)``; the leading axes broadcast.

    Returns:
        ``(...)``, in float32 at least; 0 where neither box has an area, NaN where one is NaN.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd.boxes import intersection_over_union
        >>> intersection_over_union(torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([[1.0, 0.0, 2.0, 2.0]]))
        tensor([0.3333])
    """
    first, second = to_float32(first), to_float32(second)
    low = torch.maximum(first[..., :2], second[..., :2])
    high = torch.minimum(first[..., :2] + first[..., 2:], second[..., :2] + second[..., 2:])
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    areas = [boxes[..., 2:].clamp(min=0).prod(dim=-1) for boxes in (first, second)]
    union = areas[0] + areas[1] - intersection
    return torch.where(union == 0, union, intersection / torch.where(union == 0, 1.0, union))


def box_state(boxes: Tensor) -> Tensor:
    """Return the state ``(cx / w, cy / h, log w, log h)`` that TIR-CMD eq. 3 regresses.

    As written there. The paper says that ``(cx, cy)`` are "image coordinates of the bounding box center" and leaves
    open which image, the whole one or the crop that the network sees: here they are in the frame of the boxes given,
    which for ``BBEDistiller`` are in crop pixels, all that a network can know. So a box in the crop's middle has a
    large first pair where it is small, and both pairs change with the crop's resolution.

    Args:
        boxes: ``(..., 4)``, ``x y w h``; w and h above 0, or the logarithm is not finite.

    Returns:
        ``(..., 4)``, in float32 at least.

    Example:
        >>> import torch
        >>> from mmdistill.tir_cmd.boxes import box_state
        >>> box_state(torch.tensor([1.0, 3.0, 2.0, 1.0]))
        tensor([1.0000, 3.5000, 0.6931, 0.0000])
    """
    boxes = to_float32(boxes)
    corner, size = boxes[..., :2], boxes[..., 2:]
    return torch.cat([(corner + size / 2) / size, size.log()], dim=-1)


WHERE = "BBEDistiller"


def as_constant(side: str, values: Tensor) -> Tensor:
    """Return boxes or overlaps without gradient; those in whole pixels in floating point.

    Raises:
        ShapeError: no tensor, or one of boolean or complex numbers.
    """
    if not isinstance(values, Tensor):
        raise ShapeError(WHERE, side, "type", expected="a tensor", got=type(values).__name__)
    if not (values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool):
        values = values.to(torch.get_default_dtype())
    check_floating(WHERE, side, values)
    return detached(values)


def overlaps(proposals: Tensor | None, target: Tensor) -> Tensor:
    """Return the proposals' overlaps ``(..., P)`` with the target's boxes, 0 to 1, whichever of the two is given.

    Args:
        proposals: ``(..., P, 4)``.
        target: boxes ``(..., 1, 4)`` or ``(..., 4)``, or overlaps ``(..., P, 1)`` or ``(..., P)``.

    Raises:
        ShapeError: other shapes, or the shorter forms with four proposals, which look the same.
    """
    proposals = _boxes("proposals", proposals, 2, "(..., P, 4)")
    *leading, count, _ = proposals.shape
    shape, box, scores = _shape("target", target), (*leading, 4), (*leading, count)
    if shape == (*leading, 1, 4):
        return intersection_over_union(proposals, target)
    if shape == (*scores, 1):
        return to_float32(target[..., 0])
    if shape == box == scores:
        expected = f"boxes as {(*leading, 1, 4)} or overlaps as {(*scores, 1)}, as there are 4 proposals"
        raise ShapeError(WHERE, "target", "axes", expected=expected, got=shape)
    if shape == box:
        return intersection_over_union(proposals, target[..., None, :])
    if shape == scores:
        return to_float32(target)
    raise ShapeError(WHERE, "target", "axes", expected=f"boxes {box} or overlaps {scores}", got=shape)


def states(proposals: Tensor | None, target: Tensor) -> Tensor:
    """Return the states ``(..., 4)`` of the target's boxes.

    Args:
        proposals: ``(..., P, 4)``, or None.
        target: boxes ``(B, ..., 4)``; where there are proposals ``(B, ..., 1, 4)`` too.

    Raises:
        ShapeError: other shapes.
    """
    target = _boxes("target", target, 2, "(B, ..., 4)")
    if proposals is not None:
        *leading, _, _ = _boxes("proposals", proposals, 2, "(..., P, 4)").shape
        if tuple(target.shape) == (*leading, 1, 4):
            target = target[..., 0, :]
        if tuple(target.shape) != (*leading, 4):
            expected = f"{(*leading, 4)} as proposals"
            raise ShapeError(WHERE, "target", "axes", expected=expected, got=tuple(target.shape))
    return box_state(target)


def bounds(target: Tensor) -> ValueRange:
    """Return the range of what ``overlaps`` or ``states`` took: boxes with an area, or overlaps from 0 to 1."""
    if target.shape[-1] == 4:  # overlaps with four proposals are taken as (..., 4, 1) only
        expected = "w and h of x y w h above 0"
        return ValueRange(target[..., 2:], torch.finfo(target.dtype).tiny, torch.inf, expected)
    # What an overlap computed in the target's own type may be beside the range.
    rounding = max(1e-6, 4 * torch.finfo(target.dtype).eps)
    expected = "overlaps (IoU) from 0 to 1 with either scale; scale='signed' makes 2 IoU - 1 of them here"
    return ValueRange(target, -rounding, 1 + rounding, expected)


def as_predicted(goal: Tensor, prediction: Tensor, proposals: Tensor | None, *, repeat: bool) -> Tensor:
    """Return the goal in the prediction's shape.

    Args:
        goal: ``(..., P)`` or ``(..., 4)``.
        prediction: the predictor's.
        proposals: ``(..., P, 4)``, or None.
        repeat: whether a goal ``(..., 4)`` may stand for each of the predictions ``(..., P, 4)``.

    Raises:
        ShapeError: the prediction is of another shape.
    """
    shape, expected = _shape("prediction", prediction), tuple(goal.shape)
    if shape == expected:
        return goal
    if repeat and len(shape) == len(expected) + 1:
        count = max(shape[-2], 1) if proposals is None else proposals.shape[-2]
        expected = (*expected[:-1], count, expected[-1])
        if shape == expected:
            return goal[..., None, :].expand_as(prediction)
    raise ShapeError(WHERE, "prediction", "axes", expected=expected, got=shape)


def _shape(side: str, values: object) -> tuple[int, ...]:
    if not isinstance(values, Tensor):
        raise ShapeError(WHERE, side, "type", expected="a tensor", got=type(values).__name__)
    return tuple(values.shape)


def _boxes(side: str, boxes: object, axes: int, contract: str) -> Tensor:
    if not isinstance(boxes, Tensor):
        raise ShapeError(WHERE, side, "type", expected=f"a tensor {contract}", got=type(boxes).__name__)
    check_min_axes(WHERE, side, boxes, axes, contract)
    if boxes.shape[-1] != 4:
        raise ShapeError(WHERE, side, "last axis", expected="4, x y w h", got=boxes.shape[-1])
    return boxes
