"""Bounding box estimation distillation, TIR-CMD eq. 3."""

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
from mmdistill._checks.shapes import check_device, check_min_axes
from mmdistill._checks.values import check_gradients, check_inputs
from mmdistill._execution import as_normal_tensor, detached
from mmdistill._numerics import mean_squared_error, sum_scalars, to_float32
from mmdistill.base import DistillationLoss
from mmdistill.errors import ShapeError
from mmdistill.terms import Terms
from mmdistill.tir_cmd.boxes import as_constant, as_predicted, bounds, overlaps, states
from mmdistill.tir_cmd.settings import BRANCHES, Branch

Predictor = Callable[[Any, Any, Any], Tensor]
"""The tracker's own: ``(modulation, features, proposals)`` to overlaps ``(..., P)``, or to states ``(..., P, 4)``."""

SIDES: dict[Branch, str] = {"reference": "modulation", "test": "features"}
"""Which input each branch makes."""

SCALE = "'unit' for a predictor of IoU from 0 to 1, or 'signed' for one of 2 IoU - 1, as DiMP's"


class BBEDistiller(DistillationLoss):
    """Bounding box estimation (BBE) distillation, TIR-CMD eq. 3.

        L = mean of (psi(modulation, features) - target)^2 + nu mean of |modulation|^2

    The reference branch makes a modulation of what the target looks like. The test branch makes features. From both,
    the tracker's predictor psi judges boxes. Here the two branches see two modalities of one scene, and the box is a
    patch without a label.

    Either branch may learn, as in ``TCLDistiller``. In the paper's settings B1 and D2 the reference branch learns: it
    makes the modulation. In B2 and D1 the test branch learns: it makes the features. In D3 to D5 both learn.
    By default nothing is detached. ``detach`` names the branch that teaches, as ``SETTINGS["D2"].teacher`` does. With
    ``detach="reference"`` or ``nu=0`` the second term has nothing to teach and is left out.

    The predictor stays the tracker's: it is called, and kept unregistered, so its parameters and buffers are none of
    this module's, and ``.to(device)``, ``.train()`` and ``.eval()`` of this module don't reach it. It belongs to the
    test branch, but ``detach="test"`` does not freeze it: call ``predictor.requires_grad_(False)`` where it is not to
    learn.

    ``target="iou"``, the default, is how ATOM and DiMP train the predictor: it predicts the overlap of each proposal
    with the patch's box. ``target="state"`` is eq. 3 to the letter: it predicts ``(cx / w, cy / h, log w, log h)``; see
    ``box_state``.

    The paper gives no nu. The default makes the second term about a hundredth of the first in a tracker of ATOM's kind:
    the reference tracker, trained on RGB, has modulations of squared norm 400 and a first term of 0.4 to 0.5 on the
    signed scale.

    Args:
        predictor: any callable or module ``(modulation, features, proposals)``, in a mode and on a device of its own,
            that returns overlaps ``(..., P)`` or, for ``"state"``, states ``(..., P, 4)`` or ``(..., 4)``.
        scale: the scale on which your predictor predicts overlaps: ``"unit"``, IoU from 0 to 1; ``"signed"``,
            2 IoU - 1 from -1 to 1, as the predictors of public ATOM and DiMP networks do. No default: the wrong scale
            would train to wrong targets without an error. The target is given as boxes, or as overlaps from 0 to 1,
            with either scale. A predictor of states has no scale: give None.
        nu: weight of the modulation's squared norm.
        target: ``"iou"`` or ``"state"``.
        detach: the branch that teaches, whose side is detached: ``"reference"`` (the modulation) or ``"test"`` (the
            features). None where both learn, or where the teacher's side carries no gradient anyway.
        check_values: whether the inputs' values are looked at before anything is computed. NaN and infinity are
            refused; overlaps outside 0 to 1 (a rounding error aside) and target boxes without area too.

    Raises:
        ShapeError: proposals, target and prediction don't fit together; the modulation's parts differ in their batch;
            a value that ``check_values`` refuses.
        TypeError: no scale.
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
        """Return the terms ``box`` and ``regularisation``, nu in it, and their sum.

        A tensor made in ``torch.inference_mode``, as a teacher's may be, is taken as a constant.

        Args:
            modulation: the reference branch's ``(B, C, ...)``, or a (nested) sequence of such.
            features: the test branch's, which saw the other modality; whatever the predictor takes.
            proposals: boxes to be judged ``(..., P, 4)``, ``x y w h`` in crop pixels; None where the predictor of
                states needs none. Detached here.
            target: the patch's box ``(..., 4)`` or ``(..., 1, 4)``, ``x y w h`` in crop pixels, w and h above 0. For
                ``"iou"`` also the proposals' overlaps with it, 0 to 1, ``(..., P)`` or ``(..., P, 1)``. With four
                proposals the two shorter forms have the same shape and are refused. Detached here.
        """
        named = _parts(modulation)
        proposals = None if proposals is None else as_constant("proposals", proposals)
        target = as_constant("target", target)
        for side, boxes in (("proposals", proposals), ("target", target)):
            if boxes is not None:
                check_device("BBEDistiller", side, boxes, next(iter(named.values())), "modulation")
        goal = states(proposals, target) if self.target == "state" else overlaps(proposals, target)
        inputs = _inputs(named, features, proposals, target)
        teaching = [side for side in inputs if self.detach is not None and side.startswith(SIDES[self.detach])]
        limits = {"target": bounds(target)}
        check_inputs("BBEDistiller", inputs, finite=self.check_values, bounds=limits, teaching=teaching)
        if self.target == "iou" and self.scale == "signed":
            goal = 2 * goal - 1
        modulation = _detached("modulation", modulation) if self.detach == "reference" else _savable(modulation)
        features = _detached("features", features) if self.detach == "test" else _savable(features)
        prediction = self.predictor(modulation, features, proposals)
        goal = as_predicted(goal, prediction, proposals, repeat=self.target == "state")
        check_gradients("BBEDistiller", [prediction], [])
        parts = {"box": mean_squared_error(prediction, goal)}
        if self.nu > 0 and self.detach != "reference":
            parts["regularisation"] = self.nu * _squared_norm(list(named.values())).mean()
        return Terms.summed("bbe", **parts)


def _inputs(
    modulation: dict[str, Tensor], features: Any, proposals: Tensor | None, target: Tensor
) -> dict[str, Tensor]:
    """Return every tensor whose values are looked at, by name."""
    # The predictor may be given more than maps, such as their sizes in whole numbers.
    maps = _tensors("features", features).items()
    inputs = modulation | {side: values for side, values in maps if values.ndim > 1 or values.is_floating_point()}
    inputs |= {} if proposals is None else {"proposals": proposals}
    return inputs | {"target": target}


def _parts(modulation: object) -> dict[str, Tensor]:
    """Return the modulation's tensors by name; refuse what is none, is empty or is of another batch."""
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
    found = [leaf for leaf in pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]
    return {side if len(found) == 1 else f"{side} part {n}": leaf for n, leaf in enumerate(found, start=1)}


def _detached(side: str, tree: Any) -> Any:
    """Return the same (nested) sequence with every tensor detached; refuse what hides its tensors."""
    if any(not isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(tree)):
        expected = "a tensor or a sequence of tensors, to be detached; detach others yourself"
        raise ShapeError("BBEDistiller", side, "type", expected=expected, got=type(tree).__name__)
    return pytree.tree_map(detached, tree)


def _savable(tree: Any) -> Any:
    """Return the same (nested) sequence as autograd can save it; the very same object where it can already."""
    if torch.compiler.is_compiling():
        return tree
    leaves, structure = pytree.tree_flatten(tree)
    saved = [as_normal_tensor(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves]
    unchanged = all(leaf is other for leaf, other in zip(leaves, saved, strict=True))
    return tree if unchanged else pytree.tree_unflatten(saved, structure)


def _squared_norm(parts: list[Tensor]) -> Tensor:
    """Return each sample's squared norm ``(B,)``, over all parts."""
    return sum_scalars([to_float32(values).square().flatten(1).sum(dim=1) for values in parts])
