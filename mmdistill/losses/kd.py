"""Knowledge distillation: softened scores, of classes or of the positions of a response map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdistill._checks.arguments import MAX_NUMBER, check_bool, check_choice, check_number
from mmdistill._checks.shapes import check_min_axes, check_same_shape
from mmdistill._checks.values import check_gradients, check_inputs
from mmdistill._masks import Mask, response_mask
from mmdistill._numerics import to_float32
from mmdistill.base import DistillationLoss
from mmdistill.errors import DeadTermWarning, warn
from mmdistill.terms import Terms


def softened_divergence(student: Tensor, teacher: Tensor, temperature: float, mask: Tensor | None = None) -> Tensor:
    """Return ``T^2 KL(softmax(teacher / T) || softmax(student / T))`` over the last axis.

    Args:
        student: scores ``(..., K)``.
        teacher: scores, the same shape.
        temperature: T.
        mask: booleans of the same shape, true for the scores in the softmax.

    Returns:
        ``(...)``, at least 0; 0 if the mask has no score along the axis.
    """
    student, teacher = to_float32(student), to_float32(teacher)
    if mask is not None:
        has_scores = mask.any(dim=-1, keepdim=True)
        mask = mask | ~has_scores
        student, teacher = (torch.where(mask, scores, -torch.inf) for scores in (student, teacher))
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    log_q = torch.log_softmax(student / temperature, dim=-1)
    p, log_ratio = log_p.exp(), log_q - log_p
    if mask is not None:
        log_ratio = torch.where(mask, log_ratio, 0.0)
    # q - p, which sums to 0 over the axis, is added to each p log(p/q). All entries are then positive, and close
    # distributions keep the digits that p log(p/q) loses by cancellation. expm1 would overflow beyond 1.
    close = log_ratio.clamp(max=1)
    entries = torch.where(log_ratio < 1, p * (close.expm1() - close), log_q.exp() - p - p * log_ratio)
    divergence = temperature**2 * entries.sum(dim=-1)
    return divergence if mask is None else torch.where(has_scores.squeeze(-1), divergence, 0.0)


class KDLoss(DistillationLoss):
    """Knowledge distillation (KD) of softened scores.

        L = mean over samples of T^2 KL(softmax(teacher / T) || softmax(student / T))

    The scores are class logits, or a tracker's response map, whose positions are then the classes. A constant added to
    all scores changes nothing. The teacher's side is detached here.

    The default T of 4 suits class logits, which differ by several units. If T is far above the differences, the loss
    tends to half the mean squared error of the centered scores. Response maps lie between 0 and 1: at 4 all positions
    count alike, at 0.1 mainly the peaks.

    Hinton et al., "Distilling the Knowledge in a Neural Network", 2015, section 2, https://arxiv.org/abs/1503.02531.

    Args:
        temperature: T, from 1e-6 to 1e6.
        over: ``"logits"``: the softmax is over the last axis of ``(..., K)``; ``"response"``: it is over all positions
            of ``(..., H, W)``.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: the two differ in shape, or are empty; NaN in an input.
        ValueError: an unknown ``over``, or a temperature not above 0.

    Example:
        >>> import torch
        >>> from mmdistill.losses import KDLoss
        >>> teacher, student = torch.tensor([[4.0, 0.0]]), torch.tensor([[0.0, 0.0]])
        >>> KDLoss()(student, teacher)["distillation"]
        tensor(1.7751)
    """

    def __init__(
        self,
        *,
        temperature: float = 4.0,
        over: Literal["logits", "response"] = "logits",
        check_values: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = check_number("KDLoss", "temperature", temperature, low=1 / MAX_NUMBER)
        self.over = check_choice("KDLoss", "over", over, ("logits", "response"))
        self.check_values = check_bool("KDLoss", "check_values", check_values)

    def forward(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Terms:
        """Return the term ``distillation``.

        Args:
            student: logits ``(..., K)`` or response maps ``(..., H, W)``.
            teacher: the same shape; detached here.
            mask: for response maps, booleans of the same shape, or ``(B, 1, H, W)`` for responses ``(B, H, W)``. The
                softmax is over the true positions; each map needs at least one.

        Raises:
            ValueError: a mask with class logits.
        """
        self._check(student, teacher)
        valid = self._mask(mask, student)
        # Every map needs a position, so the smallest count is checked.
        counts = None if valid is None else {"mask of one map": valid.counts.min()}
        check_inputs("KDLoss", {"student": student, "teacher": teacher}, finite=self.check_values, counts=counts)
        check_gradients("KDLoss", [student], [teacher])
        target = teacher.detach()
        if self.over == "response":
            inside = None if valid is None else valid.positions.squeeze(-3).flatten(-2)
            divergence = softened_divergence(student.flatten(-2), target.flatten(-2), self.temperature, inside)
        else:
            divergence = softened_divergence(student, target, self.temperature)
        return Terms.summed("kd", distillation=divergence.mean())

    def _mask(self, mask: Tensor | None, student: Tensor) -> Mask | None:
        if mask is not None and self.over != "response":
            raise ValueError("KDLoss: mask: expected None with over='logits', which has no positions, got a mask")
        return response_mask("KDLoss", mask, student, "student")

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        axes, contract = (2, "(..., H, W)") if self.over == "response" else (1, "(..., K)")
        check_min_axes("KDLoss", "student", student, axes, contract)
        check_same_shape("KDLoss", "teacher", teacher, student, "student")
        if not torch.compiler.is_compiling() and student.shape[-axes:].numel() == 1:
            message = f"KDLoss: expected several scores in {contract}, got 1, whose softmax is always 1"
            warn(message, DeadTermWarning)
