"""Knowledge distillation of Hinton et al., 2015: softened scores, of classes or of the positions of a response map."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mmdistill import _checks
from mmdistill._contracts import check_same_shape, check_scores
from mmdistill._inputs import check_alive, check_inputs
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
        mask: which scores the softmax is over, booleans of the same shape; all where it has none along the axis.

    Returns:
        ``(...)``, never below zero; 0 where the mask has none.
    """
    student, teacher = to_float32(student), to_float32(teacher)
    if mask is not None:
        some = mask.any(dim=-1, keepdim=True)
        mask = mask | ~some
        student, teacher = (torch.where(mask, scores, -torch.inf) for scores in (student, teacher))
    log_p = torch.log_softmax(teacher / temperature, dim=-1)
    log_q = torch.log_softmax(student / temperature, dim=-1)
    p, log_ratio = log_p.exp(), log_q - log_p
    if mask is not None:
        log_ratio = torch.where(mask, log_ratio, 0.0)
    # Each entry of p log(p/q) gets q - p added, which sums to zero over the axis: the entries are then all positive
    # and, for close distributions, keep the digits that p log(p/q) loses in canceling. expm1 would overflow beyond 1.
    close = log_ratio.clamp(max=1)
    entries = torch.where(log_ratio < 1, p * (close.expm1() - close), log_q.exp() - p - p * log_ratio)
    divergence = temperature**2 * entries.sum(dim=-1)
    return divergence if mask is None else torch.where(some.squeeze(-1), divergence, 0.0)


class KDLoss(DistillationLoss):
    """Knowledge distillation, Hinton et al., "Distilling the Knowledge in a Neural Network", 2015.

        L = mean over samples of T^2 KL(softmax(teacher / T) || softmax(student / T))

    Of class logits, or of a tracker's response maps, where every position of a map is a class. The softmax takes
    no notice of a constant added to all scores. The teacher's side is detached here.

    The default T is 4, in the middle of what is used for class logits, whose differences are of several units.
    Far above the differences, the loss tends to half the mean squared error of the centerd scores, and all entries
    count alike. So it is with response maps, trained on labels between 0 and 1: at 4 the whole map is imitated evenly,
    at 0.1 mainly its peaks.

    Args:
        temperature: T, from 1e-6 to 1e6.
        over: ``"logits"`` for scores ``(..., K)``, softmax over the last axis;
            ``"response"`` for maps ``(..., H, W)``, softmax over all positions of a map.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

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
        self.temperature = _checks.number("KDLoss", "temperature", temperature, low=1 / _checks.MAX_NUMBER)
        self.over = _checks.one_of("KDLoss", "over", over, ("logits", "response"))
        self.check_values = _checks.flag("KDLoss", "check_values", check_values)

    def forward(self, student: Tensor, teacher: Tensor, *, mask: Tensor | None = None) -> Terms:
        """Return the term ``distillation``.

        Args:
            student: logits ``(..., K)`` or response maps ``(..., H, W)``.
            teacher: the same shape; detached here.
            mask: of response maps, the positions that the softmax is over, booleans of the same shape, or
                ``(B, 1, H, W)`` for responses ``(B, H, W)``; at least one in each map.

        Raises:
            ValueError: a mask with logits of classes.
        """
        self._check(student, teacher)
        valid = self._mask(mask, student)
        # Each map needs a position: there is no softmax over none.
        counts = None if valid is None else {"mask of one map": valid.counts.min()}
        check_inputs("KDLoss", {"student": student, "teacher": teacher}, finite=self.check_values, counts=counts)
        check_alive("KDLoss", [student], [teacher])
        target = teacher.detach()
        if self.over == "response":
            inside = None if valid is None else valid.positions.squeeze(-3).flatten(-2)
            divergence = softened_divergence(student.flatten(-2), target.flatten(-2), self.temperature, inside)
        else:
            divergence = softened_divergence(student, target, self.temperature)
        return Terms.summed("kd", distillation=divergence.mean())

    def _mask(self, mask: Tensor | None, student: Tensor) -> Mask | None:
        if mask is not None and self.over != "response":
            raise ValueError("KDLoss: a mask needs over='response'; logits of classes have no positions")
        return response_mask("KDLoss", mask, student, "student")

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        axes, contract = (2, "(..., H, W)") if self.over == "response" else (1, "(..., K)")
        check_scores("KDLoss", "student", student, axes, contract)
        check_same_shape("KDLoss", "teacher", teacher, student, "student")
        if not torch.compiler.is_compiling() and student.shape[-axes:].numel() == 1:
            message = f"KDLoss: the softmax of a single score is 1 whatever it is; expected several in {contract}"
            warn(message, DeadTermWarning)
