"""Target center location (TCL) distillation, TIR-CMD eq. 2."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor

from mmdistill._checks.arguments import MAX_WEIGHT, check_bool, check_choice, check_number
from mmdistill._checks.shapes import check_axes, check_device, check_floating
from mmdistill._checks.values import check_gradients, check_inputs
from mmdistill._execution import as_normal_tensor
from mmdistill._masks import response_mask
from mmdistill._numerics import hinge_residual, mean_square, to_float32, without_autocast
from mmdistill.base import DistillationLoss
from mmdistill.correlation import correlate, score_size
from mmdistill.errors import ShapeError
from mmdistill.terms import Terms
from mmdistill.tir_cmd.settings import BRANCHES, Branch

BRANCH_INPUTS: dict[Branch, str] = {"reference": "filters", "test": "features"}
"""The input that each branch computes."""

FILTER_AXES = ("sequences", "channels", "height", "width")


class TCLDistiller(DistillationLoss):
    """Target center location (TCL) distillation, TIR-CMD eq. 2.

        L = mean of r(filter * features, label)^2 + mu mean of |filter|^2

    The reference branch of a two-branch tracker computes a filter for the target. The filter is correlated with the
    features of the test branch, which sees the other modality. The scores should be a Gaussian at the patch, so only
    the patch's position is needed as label.

    Either branch may learn. In the paper's settings C1 and D2 the reference branch learns, in D1 the test branch, in
    D3 to D5 both. By default nothing is detached; ``detach`` names the branch that teaches, as in
    ``SETTINGS["C1"].teacher``. With ``detach="reference"`` or ``mu=0`` the second term is left out.

    The first mean is over filter iterates, frames, sequences and positions, as in DiMP. The second is over iterates
    and sequences, of the sum over a filter's entries.

    The paper gives no mu. With the default the second term is about a hundredth of the first: the reference tracker,
    trained on RGB, has filters of squared norm 2.4 and a first term of 0.03 to 0.07.

    Sun et al., "Unsupervised Cross-Modal Distillation for Thermal Infrared Tracking", ACM Multimedia 2021,
    https://doi.org/10.1145/3474085.3475387, https://arxiv.org/abs/2108.00187.

    Args:
        mu: weight of the filters' squared norm.
        residual: ``"squared"``, the paper's; ``"hinge"``, DiMP's, which counts only background scores above 0.
        threshold: labels below it are background for ``"hinge"``, as in DiMP's loss.
        detach: the branch that teaches, whose input is detached: ``"reference"`` (the filters) or ``"test"`` (the
            features). None if both learn, or if the teacher's input has no gradient.
        check_values: whether to refuse NaN and infinity in the inputs before anything is computed.

    Raises:
        ShapeError: sequences, channels or frames that differ between inputs; a label of another size than the scores;
            NaN in an input.
        ValueError: an unknown residual or branch, or a negative mu.

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
        detach: Branch | None = None,
        check_values: bool = True,
    ) -> None:
        super().__init__()
        self.mu = check_number("TCLDistiller", "mu", mu, low=0, high=MAX_WEIGHT)
        self.residual = check_choice("TCLDistiller", "residual", residual, ("squared", "hinge"))
        self.threshold = check_number("TCLDistiller", "threshold", threshold)
        self.detach = check_choice("TCLDistiller", "detach", detach, (None, *BRANCHES))
        self.check_values = check_bool("TCLDistiller", "check_values", check_values)

    def forward(
        self,
        filters: Tensor | Sequence[Tensor],
        features: Tensor,
        label: Tensor,
        *,
        mask: Tensor | None = None,
    ) -> Terms:
        """Return the terms ``classification`` and ``regularisation``, which includes mu.

        Inference tensors are constants.

        Args:
            filters: the reference branch's filters ``(I, S, C, h, w)``: I iterates for each of S sequences. Or a list
                or tuple of I filters ``(S, C, h, w)``, as DiMP's optimizer returns them.
            features: the test branch's features of the other modality, ``(N, S, C, H, W)``: N frames per sequence.
            label: Gaussians at the patches' centers, from 0 to 1, ``(N, S, H', W')``; ``H' = H + 1`` for an even h,
                ``H`` for an odd one, the width likewise; detached here.
            mask: booleans ``(N, S, H', W')``, true where a score counts. The first mean is then over score maps, of
                each map's mean over its scores that count.
        """
        filters = _stacked(filters)
        self._check(filters, features, label)
        inputs = {"filters": filters, "features": features, "label": label}
        valid = response_mask("TCLDistiller", mask, label, "label")
        counts = None if valid is None else {"mask": valid.counts}
        names = ["label", *(side for branch, side in BRANCH_INPUTS.items() if branch == self.detach)]
        check_inputs("TCLDistiller", inputs, finite=self.check_values, counts=counts, teaching=names)
        learning = {"reference": filters, "test": features}
        teaching = [learning.pop(self.detach).detach()] if self.detach is not None else []
        check_gradients("TCLDistiller", learning.values(), teaching)
        filters, features = (
            as_normal_tensor(to_float32(values.detach() if branch == self.detach else values))
            for branch, values in (("reference", filters), ("test", features))
        )
        dtype = torch.promote_types(filters.dtype, features.dtype)
        filters, features = filters.to(dtype), features.to(dtype)
        with without_autocast(features.device.type):
            scores = correlate(features, filters)
        target = to_float32(label.detach())
        hinge = self.residual == "hinge"
        residual = hinge_residual(scores, target, self.threshold) if hinge else scores - target
        parts = {"classification": mean_square(residual.unsqueeze(-3), valid)}
        if self.mu > 0 and self.detach != "reference":
            parts["regularisation"] = self.mu * filters.square().sum(dim=(2, 3, 4)).mean()
        return Terms.summed("tcl", **parts)

    def _check(self, filters: Tensor, features: Tensor, label: Tensor) -> None:
        check_axes("TCLDistiller", "filters", filters, ("iterates", *FILTER_AXES))
        _, sequences, channels, *filter_size = filters.shape
        like = {"sequences": (sequences, "filters"), "channels": (channels, "filters")}
        check_axes("TCLDistiller", "features", features, ("frames", *FILTER_AXES), like)
        frames, _, _, *feature_size = features.shape
        height, width = score_size((feature_size[0], feature_size[1]), (filter_size[0], filter_size[1]))
        like = {
            "frames": (frames, "features"),
            "sequences": (sequences, "features"),
            "height": (height, "the scores"),
            "width": (width, "the scores"),
        }
        check_axes("TCLDistiller", "label", label, ("frames", "sequences", "height", "width"), like)


def _stacked(filters: Tensor | Sequence[Tensor]) -> Tensor:
    """Return a list or tuple of filters ``(S, C, h, w)`` stacked to ``(I, S, C, h, w)``; other values unchanged."""
    if not isinstance(filters, list | tuple):
        return cast(Tensor, filters)  # other types are refused later
    if not filters:
        raise ShapeError("TCLDistiller", "filters", "iterates", expected="at least 1", got=0)
    like: dict[str, tuple[int, str]] = {}
    for number, values in enumerate(filters, start=1):
        side = f"filters iterate {number}"
        check_axes("TCLDistiller", side, values, FILTER_AXES, like)
        check_floating("TCLDistiller", side, values)
        check_device("TCLDistiller", side, values, filters[0], "iterate 1")
        like = {axis: (size, "iterate 1") for axis, size in zip(FILTER_AXES, values.shape, strict=True)}
    with without_autocast(filters[0].device.type):  # float16 autocast cannot stack bfloat16
        return torch.stack(list(filters))
