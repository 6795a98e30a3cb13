"""Hard-focused Response Distillation, CMD eq. 12-13."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdistill._checks.arguments import check_bool, check_choice, check_number
from mmdistill._checks.shapes import check_min_axes, check_same_shape
from mmdistill._checks.values import check_gradients, check_inputs
from mmdistill._masks import response_mask
from mmdistill._numerics import hinge_residual, mean_square, to_float32
from mmdistill.base import DistillationLoss
from mmdistill.terms import Terms


def corrected_response(teacher: Tensor, gaussian: Tensor, *, clamp: bool = True) -> Tensor:
    """Return the corrected response R_c of CMD eq. 12: ``R_t + R_g`` where that is below 1, else ``R_g``.

    Args:
        teacher: the teacher's response map R_t ``(..., H, W)``.
        gaussian: the Gaussian label R_g of the ground-truth box, the same shape.
        clamp: whether R_t's negative values count as 0, so that R_c is nowhere below R_g.
    """
    response = teacher.clamp(min=0) if clamp else teacher
    corrected = response + gaussian
    return torch.where(corrected >= 1, gaussian, corrected)


class HFRDLoss(DistillationLoss):
    """Hard-focused Response Distillation (HFRD), CMD eq. 12-13.

        R_c = R_t + R_g where that is below 1, else R_g;    L_HFRD = r(R_s * R_c, R_g)

    The corrected response weighs the student's response. Hard negatives, where the teacher responds too, so count more
    than other background. The teacher's side is detached here.

    The published form is 0 at the score R_g / R_c, which is above the label wherever R_c is between 0 and 1. With
    ``weigh_label=True`` R_c weighs the label too. The optimum is then the label, wherever R_c is not 0::

        L_HFRD = r(R_s * R_c, R_g * R_c)

    With ``"hinge"``, any score of at most 0 is an optimum in the background. Use this form if the tracker compares its
    scores with a threshold, for instance to detect a lost target.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        residual: ``"mse"``, or ``"hinge"`` for DiMP's hinge-like residual.
        threshold: labels below it are background, where ``"hinge"`` counts positive scores only; as in DiMP's loss.
        clamp: whether the teacher's negative responses count as 0.
        weigh_label: whether R_c weighs the label too; False is the published form.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: the three maps differ in shape, or are empty; NaN in an input.

    Example:
        >>> import torch
        >>> from mmdistill import HFRDLoss
        >>> label = torch.tensor([[0.0, 1.0]])
        >>> HFRDLoss()(torch.tensor([[2.0, 1.0]]), torch.tensor([[0.5, 0.9]]), label)["response"]
        tensor(0.5000)
        >>> exact = HFRDLoss(weigh_label=True)
        >>> exact(label, torch.tensor([[0.5, 0.9]]), label)["response"]
        tensor(0.)
    """

    def __init__(
        self,
        *,
        residual: Literal["mse", "hinge"] = "mse",
        threshold: float = 0.05,
        clamp: bool = True,
        weigh_label: bool = False,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        self.residual = check_choice("HFRDLoss", "residual", residual, ("mse", "hinge"))
        self.threshold = check_number("HFRDLoss", "threshold", threshold)
        self.clamp = check_bool("HFRDLoss", "clamp", clamp)
        self.weigh_label = check_bool("HFRDLoss", "weigh_label", weigh_label)
        self.check_values = check_bool("HFRDLoss", "check_values", check_values)

    def forward(
        self, student_response: Tensor, teacher_response: Tensor, gaussian: Tensor, *, mask: Tensor | None = None
    ) -> Terms:
        """Return the term ``response``.

        Args:
            student_response: ``(..., H, W)``.
            teacher_response: the same shape; detached here.
            gaussian: the ground truth's Gaussian label, the same shape; detached here.
            mask: booleans of the same shape, or ``(B, 1, H, W)`` for responses ``(B, H, W)``, true where a position
                counts. The result is the mean over maps of each map's mean over its positions.
        """
        check_min_axes("HFRDLoss", "student_response", student_response, 2, "(..., H, W)")
        sides = {"teacher_response": teacher_response, "gaussian": gaussian}
        for side, response in sides.items():
            check_same_shape("HFRDLoss", side, response, student_response, "student_response")
        valid = response_mask("HFRDLoss", mask, student_response, "student_response")
        counts = None if valid is None else {"mask": valid.counts}
        inputs = {"student_response": student_response, **sides}
        check_inputs("HFRDLoss", inputs, finite=self.check_values, counts=counts)
        check_gradients("HFRDLoss", [student_response], [teacher_response])
        label = to_float32(gaussian.detach())
        corrected = corrected_response(to_float32(teacher_response.detach()), label, clamp=self.clamp)
        response = to_float32(student_response)
        # r(R_s R_c, R_g R_c) is computed as R_c r(R_s, R_g). So a negative R_c does not change the optimum either.
        compared = response if self.weigh_label else response * corrected
        hinge = self.residual == "hinge"
        residual = hinge_residual(compared, label, self.threshold) if hinge else compared - label
        if self.weigh_label:
            residual = residual * corrected
        return Terms.summed("hfrd", response=mean_square(residual.unsqueeze(-3), valid))
