"""The total loss of Cross-Modality Distillation, CMD eq. 14, without the tracker's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmdistill._checks.arguments import MAX_WEIGHT, check_module, check_number
from mmdistill._checks.values import synchronized_batch_norm
from mmdistill._masks import LevelMasks
from mmdistill.base import DistillationLoss
from mmdistill.errors import UnusedInputWarning, warn
from mmdistill.fusion import FusedPaths
from mmdistill.losses.hfrd import HFRDLoss
from mmdistill.losses.mpsd import MPSDLoss
from mmdistill.losses.scfd import Levels, SCFDLoss
from mmdistill.pair import Pair
from mmdistill.terms import Terms

T = TypeVar("T")

LOSS_PACKAGES = ("mmdistill.losses.", "mmdistill.tir_cmd.")
"""Packages that define this library's losses."""

WRAPPER_CLASSES = (
    "OptimizedModule",
    "DistributedDataParallel",
    "DataParallel",
    "FullyShardedDataParallel",
    "_FabricModule",
)
"""Modules that wrap another one and take the same arguments."""


class CMDLoss(DistillationLoss):
    """Cross-Modality Distillation (CMD), eq. 14: ``alpha (L_SCFD + L_MPSD) + beta L_HFRD``.

    The caller adds the tracker's own loss, L_original. The default weights suit DiMP's loss, which weighs its
    classification by 100. For a loss of weight 1, use weights that are 100 times smaller. A part that is None is left
    out, as in the paper's Table 1; inputs for it give an ``UnusedInputWarning`` once. The parts detach the teacher's
    side.

    Zhang et al., "Efficient RGB-T Tracking via Cross-Modality Distillation", CVPR 2023,
    https://doi.org/10.1109/CVPR52729.2023.00523.

    Args:
        scfd: the feature distillation, or None.
        mpsd: the fusion distillation, or None.
        hfrd: the response distillation, or None.
        alpha: weight of SCFD and MPSD. The default is the paper's, for their default ``reduction="sum"``
            (docs/losses.md, "Which alpha and beta").
        beta: weight of HFRD.

    Raises:
        ValueError: no part is given, a part is another loss of this library, or a part's input is missing.
        ShapeError: a part refuses its inputs.

    Example:
        >>> import torch
        >>> from mmdistill import CMDLoss, HFRDLoss
        >>> loss = CMDLoss(hfrd=HFRDLoss())
        >>> response = torch.rand(3, 19, 19, requires_grad=True)
        >>> label = torch.rand(3, 19, 19)
        >>> terms = loss(student_response=response, teacher_response=label, gaussian=label)
        >>> list(terms), bool(terms.total == 100 * terms["response"])
        (['response'], True)
    """

    def __init__(
        self,
        scfd: SCFDLoss | None = None,
        mpsd: MPSDLoss | None = None,
        hfrd: HFRDLoss | None = None,
        *,
        alpha: float = 1e-3,
        beta: float = 100.0,
    ) -> None:
        super().__init__()
        for name, part, kind in (("scfd", scfd, SCFDLoss), ("mpsd", mpsd, MPSDLoss), ("hfrd", hfrd, HFRDLoss)):
            _check_part(name, part, kind)
        if scfd is None and mpsd is None and hfrd is None:
            raise ValueError("CMDLoss: expected at least one of scfd, mpsd, hfrd, got none")
        self.scfd, self.mpsd, self.hfrd = scfd, mpsd, hfrd
        self._unused: set[str] = set()
        self.alpha = check_number("CMDLoss", "alpha", alpha, low=0, high=MAX_WEIGHT)
        self.beta = check_number("CMDLoss", "beta", beta, low=0, high=MAX_WEIGHT)

    def forward(
        self,
        *,
        student_features: Levels | None = None,
        teacher_features: Levels | None = None,
        student_fused: Sequence[FusedPaths] | None = None,
        teacher_fused: Sequence[Tensor] | None = None,
        student_response: Tensor | None = None,
        teacher_response: Tensor | None = None,
        gaussian: Tensor | None = None,
        mask: Tensor | None = None,
        feature_mask: LevelMasks | Pair[LevelMasks | None] | None = None,
        fused_mask: LevelMasks | None = None,
        response_mask: Tensor | None = None,
    ) -> Terms:
        """Return all parts' terms, unweighted, with their weighted total.

        Args:
            student_features: both modalities' levels, for SCFD.
            teacher_features: the same of the teacher.
            student_fused: the MPSD blocks' outputs per level, for MPSD.
            teacher_fused: the teacher's fused map per level.
            student_response: ``(..., H, W)``, for HFRD.
            teacher_response: the same of the teacher.
            gaussian: the Gaussian label, the same shape.
            mask: booleans ``(B, 1, H, W)``, true where a position counts, for every part without a mask of its own.
                For trackers whose maps and response have one size, such as ViT trackers.
            feature_mask: SCFD's ``mask``.
            fused_mask: MPSD's ``mask``.
            response_mask: HFRD's ``mask``.
        """
        self.watch_parameters()
        self._warn_unused(
            "scfd", student_features=student_features, teacher_features=teacher_features, feature_mask=feature_mask
        )
        self._warn_unused("mpsd", student_fused=student_fused, teacher_fused=teacher_fused, fused_mask=fused_mask)
        self._warn_unused(
            "hfrd",
            student_response=student_response,
            teacher_response=teacher_response,
            gaussian=gaussian,
            response_mask=response_mask,
        )

        def run_scfd(scfd: SCFDLoss) -> Terms:
            student = _given("scfd", "student_features", student_features)
            teacher = _given("scfd", "teacher_features", teacher_features)
            terms: Terms = scfd(student, teacher, **_mask(feature_mask, mask))
            return terms

        # SCFD runs last, so that its batch norm does not change when another part refuses its inputs. It runs first if
        # processes share batch norm: a process that stopped before would leave the others waiting.
        first = self.scfd is not None and synchronized_batch_norm(self.scfd) is not None
        weighted: list[tuple[float, Terms]] = []
        if self.scfd is not None and first:
            weighted.append((self.alpha, run_scfd(self.scfd)))
        if self.mpsd is not None:
            fused = _given("mpsd", "student_fused", student_fused)
            target = _given("mpsd", "teacher_fused", teacher_fused)
            terms = self.mpsd(fused, target, **_mask(fused_mask, mask))
            weighted.append((self.alpha, terms))
        if self.hfrd is not None:
            response = _given("hfrd", "student_response", student_response)
            teacher = _given("hfrd", "teacher_response", teacher_response)
            label = _given("hfrd", "gaussian", gaussian)
            terms = self.hfrd(response, teacher, label, **_mask(response_mask, mask))
            weighted.append((self.beta, terms))
        if self.scfd is not None and not first:
            weighted.insert(0, (self.alpha, run_scfd(self.scfd)))
        return Terms.weighted(*weighted).named("cmd")

    def _warn_unused(self, part: str, **inputs: object) -> None:
        """Warn once about inputs of a part that is left out."""
        if getattr(self, part) is not None or torch.compiler.is_compiling() or part in self._unused:
            return
        given = [name for name, value in inputs.items() if value is not None]
        if given:
            self._unused.add(part)
            message = f"CMDLoss: {', '.join(given)}: not used, because {part} is None"
            warn(message, UnusedInputWarning)


def _check_part(name: str, part: nn.Module | None, kind: type[nn.Module]) -> None:
    """Refuse a part that is no module, or is another loss of this library, as when parts are swapped.

    Other modules with the same arguments are allowed: a user's own, or a wrapper.
    """
    check_module("CMDLoss", name, part)
    inner: object = part
    while isinstance(inner, nn.Module) and type(inner).__name__ in WRAPPER_CLASSES:
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    is_ours = any(each.__module__.startswith(LOSS_PACKAGES) for each in type(inner).__mro__)
    if is_ours and not isinstance(inner, kind):
        raise ValueError(
            f"CMDLoss: {name}: expected {kind.__name__} or a module with its arguments, got {type(inner).__name__}"
        )


def _given(part: str, name: str, value: T | None) -> T:
    if value is None:
        raise ValueError(f"CMDLoss: {name}: expected an input for {part}, got None; without it, leave {part} out")
    return value


def _mask(own: object, for_all: object) -> dict[str, object]:
    """Return a part's mask as a keyword argument; without a mask none, as a user's own part need not take one."""
    mask = for_all if own is None else own
    return {} if mask is None else {"mask": mask}
