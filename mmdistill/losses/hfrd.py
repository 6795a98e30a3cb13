"""Hard-focused Response Distillation, CMD eq. 12-13."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill._contracts import check_same_shape, check_scores
from mmdistill._inputs import check_alive, check_inputs
from mmdistill._masks import response_mask
from mmdistill._numerics import hinge_residual, mean_square, to_float32
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms


def corrected_response(teacher: Tensor, gaussian: Tensor, *, clamp: bool = True) -> Tensor:
    """Return R_c of CMD eq. 12: ``R_t + R_g`` where that is below 1, else ``R_g``.

    Args:
        teacher: the teacher's response map R_t ``(..., H, W)``.
        gaussian: the Gaussian label R_g of the ground-truth box, the same shape.
        clamp: whether R_t's negative values count as 0, so that the mask is nowhere below R_g.
    """
    response = teacher.clamp(min=0) if clamp else teacher
    corrected = response + gaussian
    return torch.where(corrected >= 1, gaussian, corrected)


class HFRDLoss(DistillationLoss):
    """Hard-focused Response Distillation, CMD eq. 12-13.

        R_c = R_t + R_g where that is below 1, else R_g;    L_HFRD = r(R_s * R_c, R_g)

    The teacher's response masks the student's: hard negatives, where the teacher too responds, weigh more than
    plain background. The teacher's side is detached here.

    Args:
        residual: ``"mse"``, or ``"hinge"`` for DiMP's hinge-like residual.
        threshold: below which label the hinge counts only positive scores; as in DiMP's loss.
        clamp: whether the teacher's negative responses count as 0.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

    Raises:
        ShapeError: the three maps differ in shape, or are empty; NaN in an input.

    Example:
        >>> import torch
        >>> from mmdistill import HFRDLoss
        >>> label = torch.tensor([[0.0, 1.0]])
        >>> HFRDLoss()(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, 0.9]]), label)["response"]
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        residual: Literal["mse", "hinge"] = "mse",
        threshold: float = 0.05,
        clamp: bool = True,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        self.residual = _checks.one_of("HFRDLoss", "residual", residual, ("mse", "hinge"))
        self.threshold = _checks.number("HFRDLoss", "threshold", threshold)
        self.clamp = _checks.flag("HFRDLoss", "clamp", clamp)
        self.check_values = _checks.flag("HFRDLoss", "check_values", check_values)

    def forward(
        self, student_response: Tensor, teacher_response: Tensor, gaussian: Tensor, *, mask: Tensor | None = None
    ) -> Terms:
        """Return the term ``response``.

        Args:
            student_response: ``(..., H, W)``.
            teacher_response: the same shape; detached here.
            gaussian: the ground truth's Gaussian label, the same shape; detached here.
            mask: the positions that count, booleans of the same shape, or ``(B, 1, H, W)`` for responses ``(B, H, W)``.
                The mean is then each map's own over its positions that count, and the mean of these.
        """
        check_scores("HFRDLoss", "student_response", student_response, 2, "(..., H, W)")
        sides = {"teacher_response": teacher_response, "gaussian": gaussian}
        for side, response in sides.items():
            check_same_shape("HFRDLoss", side, response, student_response, "student_response")
        valid = response_mask("HFRDLoss", mask, student_response, "student_response")
        counts = None if valid is None else {"mask": valid.counts}
        inputs = {"student_response": student_response, **sides}
        check_inputs("HFRDLoss", inputs, finite=self.check_values, counts=counts)
        check_alive("HFRDLoss", [student_response], [teacher_response])
        label = to_float32(gaussian.detach())
        corrected = corrected_response(to_float32(teacher_response.detach()), label, clamp=self.clamp)
        masked = to_float32(student_response) * corrected
        hinge = self.residual == "hinge"
        residual = hinge_residual(masked, label, self.threshold) if hinge else masked - label
        return Terms.summed("hfrd", response=mean_square(residual.unsqueeze(-3), valid))
