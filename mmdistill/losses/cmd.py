"""Cross-Modality Distillation as a whole, CMD eq. 14 without the tracker's own loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill._inputs import synchronized_statistics
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
"""Where this library's losses are defined."""

WRAPPERS = (
    "OptimizedModule",
    "DistributedDataParallel",
    "DataParallel",
    "FullyShardedDataParallel",
    "_FabricModule",
)
"""Modules that call the one inside them as it is."""


class CMDLoss(DistillationLoss):
    """Cross-Modality Distillation, CMD eq. 14: ``alpha (L_SCFD + L_MPSD) + beta L_HFRD``.

    The tracker's own loss, L_original, is the caller's to add. The weights are for one such as DiMP's, whose
    classification counts 100; beside a loss of weight 1, beta is to be 100 times smaller. A part that is not given is
    left out together with its inputs, so Table 1's rows are this class with fewer parts. ``UnusedInputWarning`` says
    once that inputs of such a part are not used. The teacher's side is detached by the parts.

    Args:
        scfd: the feature distillation, or None.
        mpsd: the fusion distillation, or None.
        hfrd: the response distillation, or None.
        alpha: weight of SCFD and MPSD; by default the paper's, which fits sums over a map. These losses are means, of
            which the reference tracker takes 100 (docs/losses.md, "Which alpha and beta").
        beta: weight of HFRD.

    Raises:
        ValueError: no part is given, a part is another loss of this library, or a part's input is missing.
        ShapeError: as the parts do.

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
            raise ValueError("CMDLoss: give at least one of scfd, mpsd, hfrd; with none there is nothing to distill")
        self.scfd, self.mpsd, self.hfrd = scfd, mpsd, hfrd
        self._unused: set[str] = set()
        self.alpha = _checks.number("CMDLoss", "alpha", alpha, low=0, high=_checks.MAX_WEIGHT)
        self.beta = _checks.number("CMDLoss", "beta", beta, low=0, high=_checks.MAX_WEIGHT)

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
        """Return every part's terms, unweighted, with the weighted total.

        Args:
            student_features: both modalities' levels, for SCFD.
            teacher_features: the same of the teacher.
            student_fused: what the MPSD blocks returned per level, for MPSD.
            teacher_fused: the teacher's fused map per level.
            student_response: ``(..., H, W)``, for HFRD.
            teacher_response: the same of the teacher.
            gaussian: the Gaussian label, the same shape.
            mask: the positions that count, ``(B, 1, H, W)``, for every part that has no mask of its own below. For a
                tracker whose maps and response all have one size, such as a ViT.
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

        # SCFD last: its batch norm has a state, in which what the other parts refuse must leave no trace. But first
        # where processes share that state: one that refuses would leave the others waiting.
        first = self.scfd is not None and synchronized_statistics(self.scfd) is not None
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
        """Warn once of inputs whose part is left out."""
        if getattr(self, part) is not None or torch.compiler.is_compiling() or part in self._unused:
            return
        given = [name for name, value in inputs.items() if value is not None]
        if given:
            self._unused.add(part)
            message = f"CMDLoss: {', '.join(given)}: given, but not used, because {part} is left out"
            warn(message, UnusedInputWarning)


def _check_part(name: str, part: nn.Module | None, kind: type[nn.Module]) -> None:
    """Refuse what is no module, and another loss of this library, as where parts are swapped.

    Any other module with the part's arguments may take its place: a user's own, or a wrapper of a part.
    """
    _checks.part("CMDLoss", name, part)
    inner: object = part
    while isinstance(inner, nn.Module) and type(inner).__name__ in WRAPPERS:
        inner = inner._orig_mod if hasattr(inner, "_orig_mod") else inner.module
    ours = any(each.__module__.startswith(LOSS_PACKAGES) for each in type(inner).__mro__)
    if ours and not isinstance(inner, kind):
        raise ValueError(
            f"CMDLoss: {name} must be {kind.__name__}, or a module with the same arguments; got {type(inner).__name__}"
        )


def _given(part: str, name: str, value: T | None) -> T:
    if value is None:
        raise ValueError(f"CMDLoss: {part} needs {name}, which was not given; leave {part} out to do without")
    return value


def _mask(own: object, for_all: object) -> dict[str, object]:
    """Return a part's mask as a keyword argument, or none: a user's own part need not take a mask."""
    given = for_all if own is None else own
    return {} if given is None else {"mask": given}
