"""DiMP's own training loss, CMD's L_original: overlap of proposals, and scores of every filter iterate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from mmdistill import Terms
from mmdistill._numerics import hinge_residual, to_float32
from mmdistill.reference.models.config import NetworkSettings
from mmdistill.reference.models.dimp_classifier import gaussian_label
from mmdistill.reference.models.tracker_network import Predictions
from mmdistill.reference.training.data_loader import Batch
from mmdistill.toolkit.ranges import Range, Weight, check_fields


@dataclass(frozen=True)
class TrackingLossSettings:
    """Weights of the tracking loss; the defaults are DiMP's.

    Attributes:
        box: weight of the squared error of the predicted IoU, which is on the scale -1 to 1.
        last: weight of the last filter iterate's scores.
        first: weight of the initial filter's scores.
        middle: weight of the iterates between, shared among them.
        threshold: below which label only positive scores are errors.
    """

    box: Weight = 1.0
    last: Weight = 100.0
    first: Weight = 100.0
    middle: Weight = 400.0
    threshold: Annotated[float, Range(0, 1)] = 0.05

    def __post_init__(self) -> None:
        check_fields(self)


def labels(boxes: Tensor, settings: NetworkSettings) -> Tensor:
    """Return the Gaussian labels ``(M, S, H', W')`` of test frames with these targets, ``(M, S, 4)`` in crop pixels."""
    size = (settings.score_size, settings.score_size)
    return gaussian_label(boxes, size, settings.crop_size / settings.feature_size, settings.label_sigma_cells)


def tracking_loss(predictions: Predictions, batch: Batch, label: Tensor, settings: TrackingLossSettings) -> Terms:
    """Return the terms ``box``, ``last``, ``first`` and ``middle`` with their weighted total.

    Predictions without scores have ``box`` alone.

    Args:
        predictions: what the network made of the batch.
        batch: for the proposals' overlaps.
        label: the test frames' Gaussian labels ``(M, S, H', W')``.
        settings: weights and threshold.
    """
    box = (to_float32(predictions.iou) - (2 * batch.overlaps - 1)).square().mean()
    if predictions.scores is None:
        return Terms.weighted((settings.box, Terms.summed(box=box)))
    residual = hinge_residual(predictions.scores, label.expand_as(predictions.scores), settings.threshold)
    iterates = residual.square().flatten(1).mean(dim=1)
    parts = {"box": box, "last": iterates[-1], "first": iterates[0]}
    weights = {"box": settings.box, "last": settings.last, "first": settings.first, "middle": settings.middle}
    if len(iterates) > 2:
        parts["middle"] = iterates[1:-1].mean()
    return Terms.weighted(*((weights[name], Terms.summed(**{name: value})) for name, value in parts.items()))
