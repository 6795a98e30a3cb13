"""Target centre location distillation, TIR-CMD eq. 2."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mmdistill import _checks
from mmdistill.correlation import correlate, score_size
from mmdistill.errors import check_alive, check_axes, check_inputs
from mmdistill.precision import without_autocast
from mmdistill.reductions import widen
from mmdistill.residual import hinge_residual
from mmdistill.terms import Terms


class TCLDistiller(nn.Module):
    """Target centre location (TCL) distillation, TIR-CMD eq. 2.

        L = mean of r(filter * features, label)^2 + mu mean of |filter|^2

    A two-branch tracker makes a target filter of what its reference branch sees and correlates it with the features of
    what its test branch sees. Here the two branches see two modalities of one scene, so no label but the place is
    needed: the filter of the one must answer, on the features of the other, with a Gaussian at the patch.

    Which side learns is the caller's: the filters in the paper's setting C1, the features in D1, both in D3. So nothing
    is detached here by default; a teacher's side is detached by whoever froze its branch, or here, by ``detach``.

    The first mean is over filter iterates, frames, sequences and cells, as DiMP averages over its optimiser's iterates;
    the second over iterates and sequences, of a sum over all entries of a filter. With ``detach="filters"`` or ``mu=0``
    the second has nothing to teach and is left out.

    The paper gives no mu. The default makes the second term about a hundredth of the first in a tracker of DiMP's kind:
    the reference tracker, trained on RGB, has filters of squared norm 2.4 and a first term of 0.03 to 0.07.

    Args:
        mu: weight of the filters' squared norm.
        residual: ``"squared"``, the paper's; ``"hinge"`` for DiMP's, which counts background scores only above 0.
        threshold: below which label the hinge takes a cell as background; as in DiMP's loss.
        detach: the side that teaches, ``"filters"`` or ``"features"``; None if its owner has seen to it, or both learn.
        check_values: whether NaN and infinity in the inputs are looked for, and refused, before anything is computed.

    Raises:
        ShapeError: sequences, channels or frames that differ between the inputs, or a label that is not of the scores'
            size; NaN in an input.
        ValueError: an unknown residual or side to detach, or a negative mu.

    Example:
        >>> import torch
        >>> from mmdistill import TCLDistiller
        >>> filters = torch.full((1, 1, 1, 1, 1), 2.0, requires_grad=True)  # one filter, one channel, 1x1
        >>> features, label = torch.tensor([[[[[0.0, 1.0]]]]]), torch.tensor([[[[0.0, 1.0]]]])
        >>> terms = TCLDistiller(mu=0.01)(filters, features, label)
        >>> {name: round(value.item(), 4) for name, value in terms.items()}
        {'classification': 0.5, 'regularisation': 0.04}
    """

    def __init__(
        self,
        *,
        mu: float = 1e-4,
        residual: Literal["squared", "hinge"] = "squared",
        threshold: float = 0.05,
        detach: Literal["filters", "features"] | None = None,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        self.mu = _checks.number("TCLDistiller", "mu", mu, low=0, high=_checks.MAX_WEIGHT)
        self.residual = _checks.one_of("TCLDistiller", "residual", residual, ("squared", "hinge"))
        self.threshold = _checks.number("TCLDistiller", "threshold", threshold)
        self.detach = _checks.one_of("TCLDistiller", "detach", detach, (None, "filters", "features"))
        self.check_values = _checks.flag("TCLDistiller", "check_values", check_values)

    def forward(self, filters: Tensor, features: Tensor, label: Tensor) -> Terms:
        """Return the terms ``classification`` and ``regularisation``, mu in it, and their sum.

        Args:
            filters: the reference branch's filter iterates ``(I, S, C, h, w)``: I of each of S sequences.
            features: the test branch's, which saw the other modality, ``(N, S, C, H, W)``: N frames of each sequence.
            label: Gaussians at the patches' centres ``(N, S, H', W')``; ``H' = H + 1`` for an even h, ``H`` for an odd
                one, the width likewise; detached here.
        """
        self._check(filters, features, label)
        inputs = {"filters": filters, "features": features, "label": label}
        check_inputs("TCLDistiller", inputs, finite=self.check_values)
        learning = {"filters": filters, "features": features}
        teaching = [learning.pop(self.detach).detach()] if self.detach is not None else []
        check_alive("TCLDistiller", learning.values(), teaching)
        filters, features = (
            widen(values.detach() if side == self.detach else values)
            for side, values in (("filters", filters), ("features", features))
        )
        dtype = torch.promote_types(filters.dtype, features.dtype)
        filters, features = filters.to(dtype), features.to(dtype)
        with without_autocast(features.device.type):
            scores = correlate(features, filters)
        target = widen(label.detach())
        hinge = self.residual == "hinge"
        residual = hinge_residual(scores, target, self.threshold) if hinge else scores - target
        parts = {"classification": residual.square().mean()}
        if self.mu > 0 and self.detach != "filters":
            parts["regularisation"] = self.mu * filters.square().sum(dim=(2, 3, 4)).mean()
        return Terms.summed("tcl", **parts)

    def _check(self, filters: Tensor, features: Tensor, label: Tensor) -> None:
        axes = ("sequences", "channels", "height", "width")
        check_axes("TCLDistiller", "filters", filters, ("iterates", *axes))
        _, sequences, channels, *filter_size = filters.shape
        like = {"sequences": (sequences, "filters"), "channels": (channels, "filters")}
        check_axes("TCLDistiller", "features", features, ("frames", *axes), like)
        frames, _, _, *feature_size = features.shape
        height, width = score_size((feature_size[0], feature_size[1]), (filter_size[0], filter_size[1]))
        like = {
            "frames": (frames, "features"),
            "sequences": (sequences, "features"),
            "height": (height, "the scores"),
            "width": (width, "the scores"),
        }
        check_axes("TCLDistiller", "label", label, ("frames", "sequences", "height", "width"), like)
