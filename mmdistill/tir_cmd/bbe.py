"""Bounding box estimation (BBE) distillation, TIR-CMD eq. 3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mmdistill._checks.arguments import (
    MAX_WEIGHT,
    argument_error,
    check_bool,
    check_callable,
    check_choice,
    check_number,
)
from mmdistill._checks.shapes import check_device, check_floating, check_min_axes
from mmdistill._checks.values import ValueRange, check_gradients, check_inputs
from mmdistill._execution import as_normal_tensor, detached
from mmdistill._numerics import mean_squared_error, sum_scalars, to_float32
from mmdistill.base import DistillationLoss
from mmdistill.errors import ShapeError
from mmdistill.terms import Terms
from mmdistill.tir_cmd.boxes import box_state, intersection_over_union
from mmdistill.tir_cmd.settings import BRANCHES, Branch

Predictor = Callable[[Any, Any, Any], Tensor]
"""The tracker's predictor: ``(modulation, features, proposals)`` to overlaps ``(..., P)`` or states ``(..., P, 4)``."""

BRANCH_INPUTS: dict[Branch, str] = {"reference": "modulation", "test": "features"}
"""The input that each branch computes."""

SCALE = "'unit' for a predictor of IoU from 0 to 1, or 'signed' for one of 2 IoU - 1, as DiMP's"


class BBEDistiller(DistillationLoss):
    """Bounding box estimation (BBE) distillation, TIR-CMD eq. 3.

        L = mean of (psi(modulation, features) - target)^2 + nu mean of |modulation|^2

    The reference branch computes a modulation vector from the target's appearance, the test branch computes features.
    The tracker's predictor psi scores boxes from both. The branches see two modalities of one scene, and the target is
    the box of an unlabeled patch.

    Either branch may learn. In the paper's settings B1 and D2 the reference branch learns, in B2 and D1 the test
    branch, in D3 to D5 both. By default nothing is detached; ``detach`` names the branch that teaches, as in
    ``SETTINGS["D2"].teacher``. With ``detach="reference"`` or ``nu=0`` the second term is left out.

    The predictor is called, but not registered: ``.to(device)``, ``.train()`` and ``.eval()`` of this module do not
    reach it, and its parameters are not this module's. ``detach="test"`` does not freeze it; use
    ``predictor.requires_grad_(False)`` for that.

    With ``target="iou"``, the default, the predictor predicts each proposal's IoU with the patch's box, as ATOM and
    DiMP train it. With ``target="state"`` it predicts ``(cx / w, cy / h, log w, log h)``, as eq. 3 says; see
    ``box_state``.

    The paper gives no nu. With the default the second term is about a hundredth of the first: the reference tracker,
    trained on RGB, has modulations of squared norm 400 and a first term of 0.4 to 0.5 on the signed scale.

    Sun et al., "Unsupervised Cross-Modal Distillation for Thermal Infrared Tracking", ACM Multimedia 2021,
    https://doi.org/10.1145/3474085.3475387, https://arxiv.org/abs/2108.00187.

    Args:
        predictor: any callable or module ``(modulation, features, proposals)``. It returns overlaps ``(..., P)``; for
            ``"state"`` it returns states ``(..., P, 4)`` or ``(..., 4)``.
        scale: the scale of the predicted overlaps: ``"unit"``, IoU from 0 to 1; ``"signed"``, 2 IoU - 1 from -1 to 1,
            as in public ATOM and DiMP networks. There is no default, because a wrong scale would train to wrong
            targets without an error. The target's overlaps are always from 0 to 1. None for a predictor of states.
        nu: weight of the modulation's squared norm.
        target: ``"iou"`` or ``"state"``.
        detach: the branch that teaches, whose input is detached: ``"reference"`` (the modulation) or ``"test"`` (the
            features). None if both learn, or if the teacher's input has no gradient.
        check_values: whether to refuse wrong values before anything is computed: NaN, infinity, overlaps outside 0 to
            1 (but for rounding) and target boxes without area.

    Raises:
        ShapeError: shapes of proposals, target and prediction that do not fit; modulation tensors of different batch;
            a wrong value, with ``check_values``.
        ValueError: an unknown target, scale or branch, or a negative nu.

    Example:
        >>> import torch
        >>> from mmdistill import BBEDistiller
        >>> def predictor(modulation, features, proposals):  # yours is a network
        ...     return (modulation * features).mean(dim=(1, 2, 3))[:, None] * proposals[..., 2]
        >>> modulation, features = torch.ones(1, 2, 1, 1, requires_grad=True), torch.full((1, 2, 4, 4), 0.5)
        >>> proposals = torch.tensor([[[0.0, 0.0, 1.0, 2.0], [0.0, 0.0, 2.0, 2.0]]])
        >>> box = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
        >>> terms = BBEDistiller(predictor, scale="unit", nu=0.1)(modulation, features, proposals, box)
        >>> {name: round(value.item(), 4) for name, value in terms.items()}  # all overlaps are right
        {'box': 0.0, 'regularisation': 0.2}
    """

    def __init__(
        self,
        predictor: Predictor,
        *,
        scale: Literal["unit", "signed"] | None,
        nu: float = 1e-5,
        target: Literal["iou", "state"] = "iou",
        detach: Branch | None = None,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        check_callable("BBEDistiller", "predictor", predictor)
        self._predictor = (predictor,)  # in a tuple, so that it is not registered
        self.nu = check_number("BBEDistiller", "nu", nu, low=0, high=MAX_WEIGHT)
        self.target = check_choice("BBEDistiller", "target", target, ("iou", "state"))
        if not ((isinstance(scale, str) and scale in ("unit", "signed")) or (scale is None and target == "state")):
            raise argument_error("BBEDistiller", "scale", SCALE, scale)
        self.scale = scale
        self.detach = check_choice("BBEDistiller", "detach", detach, (None, *BRANCHES))
        self.check_values = check_bool("BBEDistiller", "check_values", check_values)

    @property
    def predictor(self) -> Predictor:
        """The tracker's predictor."""
        return self._predictor[0]

    def forward(
        self, modulation: Tensor | Sequence[Any], features: Any, proposals: Tensor | None, target: Tensor
    ) -> Terms:
        """Return the terms ``box`` and ``regularisation``, which includes nu.

        Inference tensors are constants.

        Args:
            modulation: the reference branch's ``(B, C, ...)``, or a (nested) sequence of such tensors.
            features: the test branch's features of the other modality, as the predictor takes them.
            proposals: boxes ``(..., P, 4)``, ``x y w h`` in crop pixels; None if a predictor of states takes none.
                Detached here.
            target: the patch's box ``(..., 4)`` or ``(..., 1, 4)``, ``x y w h`` in crop pixels, w and h above 0. For
                ``"iou"`` also the proposals' overlaps with it, 0 to 1, ``(..., P)`` or ``(..., P, 1)``. With four
                proposals the shorter forms are ambiguous and refused. Detached here.
        """
        named = _modulation_tensors(modulation)
        proposals = None if proposals is None else _as_constant("proposals", proposals)
        target = _as_constant("target", target)
        for side, boxes in (("proposals", proposals), ("target", target)):
            if boxes is not None:
                check_device("BBEDistiller", side, boxes, next(iter(named.values())), "modulation")
        goal = _target_states(proposals, target) if self.target == "state" else _target_overlaps(proposals, target)
        inputs = _named_inputs(named, features, proposals, target)
        teaching = [side for side in inputs if self.detach is not None and side.startswith(BRANCH_INPUTS[self.detach])]
        limits = {"target": _target_range(target)}
        check_inputs("BBEDistiller", inputs, finite=self.check_values, bounds=limits, teaching=teaching)
        if self.target == "iou" and self.scale == "signed":
            goal = 2 * goal - 1
        modulation = _detached("modulation", modulation) if self.detach == "reference" else _as_normal(modulation)
        features = _detached("features", features) if self.detach == "test" else _as_normal(features)
        prediction = self.predictor(modulation, features, proposals)
        goal = _match_prediction(goal, prediction, proposals, repeat=self.target == "state")
        check_gradients("BBEDistiller", [prediction], [])
        parts = {"box": mean_squared_error(prediction, goal)}
        if self.nu > 0 and self.detach != "reference":
            parts["regularisation"] = self.nu * _squared_norm(list(named.values())).mean()
        return Terms.summed("bbe", **parts)


def _named_inputs(
    modulation: dict[str, Tensor], features: Any, proposals: Tensor | None, target: Tensor
) -> dict[str, Tensor]:
    """Return every tensor whose values are checked, by name."""
    # The predictor may take more than maps, such as their sizes as integers.
    maps = _tensors("features", features).items()
    inputs = modulation | {side: values for side, values in maps if values.ndim > 1 or values.is_floating_point()}
    inputs |= {} if proposals is None else {"proposals": proposals}
    return inputs | {"target": target}


def _modulation_tensors(modulation: object) -> dict[str, Tensor]:
    """Return the modulation's tensors by name; refuse other objects, empty tensors and different batches."""
    parts = _tensors("modulation", modulation)
    if not parts or len(parts) != len(pytree.tree_leaves(modulation)):
        expected = "a tensor (B, C, ...) or a sequence of such"
        raise ShapeError("BBEDistiller", "modulation", "type", expected=expected, got=type(modulation).__name__)
    first = next(iter(parts.values()))
    for side, values in parts.items():
        check_min_axes("BBEDistiller", side, values, 2, "(B, C, ...)")
        if values.shape[0] != first.shape[0]:
            expected = f"{first.shape[0]} as the first part"
            raise ShapeError("BBEDistiller", side, "batch", expected=expected, got=values.shape[0])
    return parts


def _tensors(side: str, tree: object) -> dict[str, Tensor]:
    """Return the tensors in a (nested) sequence by name."""
    tensors = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    return {side if len(tensors) == 1 else f"{side} part {n}": leaf for n, leaf in enumerate(tensors, start=1)}


def _detached(side: str, tree: Any) -> Any:
    """Return the (nested) sequence with every tensor detached; refuse objects that are not tensors."""
    if any(not isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(tree)):
        expected = "a tensor or a sequence of tensors, to be detached; detach others yourself"
        raise ShapeError("BBEDistiller", side, "type", expected=expected, got=type(tree).__name__)
    return pytree.tree_map(detached, tree)


def _as_normal(tree: Any) -> Any:
    """Return the (nested) sequence with normal tensors only; the same object if nothing changes."""
    if torch.compiler.is_compiling():
        return tree
    leaves, structure = pytree.tree_flatten(tree)
    normal = [as_normal_tensor(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    unchanged = all(leaf is other for leaf, other in zip(leaves, normal, strict=True))
    return tree if unchanged else pytree.tree_unflatten(normal, structure)


def _squared_norm(parts: list[Tensor]) -> Tensor:
    """Return each sample's squared norm ``(B,)``, over all parts."""
    return sum_scalars([to_float32(values).square().flatten(1).sum(dim=1) for values in parts])


def _as_constant(side: str, values: Tensor) -> Tensor:
    """Return boxes or overlaps without gradient and in floating point."""
    if not isinstance(values, Tensor):
        raise ShapeError("BBEDistiller", side, "type", expected="a tensor", got=type(values).__name__)
    if not (values.dtype.is_floating_point or values.dtype.is_complex or values.dtype == torch.bool):
        values = values.to(torch.get_default_dtype())
    check_floating("BBEDistiller", side, values)
    return detached(values)


def _target_overlaps(proposals: Tensor | None, target: Tensor) -> Tensor:
    """Return the proposals' IoU ``(..., P)`` with the target's boxes, or the target itself if it holds overlaps.

    Args:
        proposals: ``(..., P, 4)``.
        target: boxes ``(..., 1, 4)`` or ``(..., 4)``, or overlaps ``(..., P, 1)`` or ``(..., P)``.

    Raises:
        ShapeError: other shapes; with four proposals also the shorter forms, which are then ambiguous.
    """
    proposals = _check_boxes("proposals", proposals, "(..., P, 4)")
    *leading, count, _ = proposals.shape
    shape, box, overlaps = tuple(target.shape), (*leading, 4), (*leading, count)
    if shape == (*leading, 1, 4):
        return intersection_over_union(proposals, target)
    if shape == (*overlaps, 1):
        return to_float32(target[..., 0])
    if shape == box == overlaps:
        expected = f"boxes as {(*leading, 1, 4)} or overlaps as {(*overlaps, 1)}, as there are 4 proposals"
        raise ShapeError("BBEDistiller", "target", "axes", expected=expected, got=shape)
    if shape == box:
        return intersection_over_union(proposals, target[..., None, :])
    if shape == overlaps:
        return to_float32(target)
    raise ShapeError("BBEDistiller", "target", "axes", expected=f"boxes {box} or overlaps {overlaps}", got=shape)


def _target_states(proposals: Tensor | None, target: Tensor) -> Tensor:
    """Return the states ``(..., 4)`` of the target's boxes.

    Args:
        proposals: ``(..., P, 4)``, or None.
        target: boxes ``(B, ..., 4)``; with proposals also ``(B, ..., 1, 4)``.

    Raises:
        ShapeError: other shapes.
    """
    target = _check_boxes("target", target, "(B, ..., 4)")
    if proposals is not None:
        *leading, _, _ = _check_boxes("proposals", proposals, "(..., P, 4)").shape
        if tuple(target.shape) == (*leading, 1, 4):
            target = target[..., 0, :]
        if tuple(target.shape) != (*leading, 4):
            expected = f"{(*leading, 4)} as proposals"
            raise ShapeError("BBEDistiller", "target", "axes", expected=expected, got=tuple(target.shape))
    return box_state(target)


def _target_range(target: Tensor) -> ValueRange:
    """Return the allowed range of a target: boxes with an area, or overlaps from 0 to 1."""
    if target.shape[-1] == 4:  # overlaps with four proposals are (..., 4, 1)
        expected = "w and h of x y w h above 0"
        return ValueRange(target[..., 2:], torch.finfo(target.dtype).tiny, torch.inf, expected)
    # Overlaps computed in the target's dtype may leave the range by rounding.
    rounding = max(1e-6, 4 * torch.finfo(target.dtype).eps)
    expected = "overlaps (IoU) from 0 to 1 with either scale; scale='signed' makes 2 IoU - 1 of them here"
    return ValueRange(target, -rounding, 1 + rounding, expected)


def _match_prediction(values: Tensor, prediction: Tensor, proposals: Tensor | None, *, repeat: bool) -> Tensor:
    """Return the target's values in the prediction's shape.

    Args:
        values: ``(..., P)`` or ``(..., 4)``.
        prediction: the predictor's output.
        proposals: ``(..., P, 4)``, or None.
        repeat: whether values ``(..., 4)`` may be repeated for predictions ``(..., P, 4)``.

    Raises:
        ShapeError: the prediction has another shape.
    """
    if not isinstance(prediction, Tensor):
        raise ShapeError("BBEDistiller", "prediction", "type", expected="a tensor", got=type(prediction).__name__)
    shape, expected = tuple(prediction.shape), tuple(values.shape)
    if shape == expected:
        return values
    if repeat and len(shape) == len(expected) + 1:
        count = max(shape[-2], 1) if proposals is None else proposals.shape[-2]
        expected = (*expected[:-1], count, expected[-1])
        if shape == expected:
            return values[..., None, :].expand_as(prediction)
    raise ShapeError("BBEDistiller", "prediction", "axes", expected=expected, got=shape)


def _check_boxes(side: str, boxes: Tensor | None, contract: str) -> Tensor:
    check_min_axes("BBEDistiller", side, boxes, 2, contract)
    assert boxes is not None
    if boxes.shape[-1] != 4:
        raise ShapeError("BBEDistiller", side, "last axis", expected="4, x y w h", got=boxes.shape[-1])
    return boxes
