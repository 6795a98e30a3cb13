import numpy as np
import pytest
import torch

from mmdistill.reference.models.tracker_network import Predictions, TrackerNetwork
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.stages import TrackingLossSettings, score_labels, tracking_loss


def test_values_are_dimps(batch: Batch, student: TrackerNetwork) -> None:
    predictions = student(batch.train, batch.train_boxes, batch.test, batch.proposals)
    label = score_labels(batch.test_boxes, student.settings)
    terms = tracking_loss(predictions, batch, label, TrackingLossSettings())
    scores, g = predictions.scores.detach().double().numpy(), label.double().numpy()
    errors = [np.mean(np.where(g < 0.05, np.maximum(s, 0), s - g) ** 2) for s in scores]
    iou = predictions.iou.detach().double().numpy()
    box = np.mean((iou - (2 * batch.overlaps.double().numpy() - 1)) ** 2)
    expected = {"box": box, "last": errors[-1], "first": errors[0], "middle": np.mean(errors[1:-1])}
    assert set(terms) == set(expected)
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    # The four middle iterates share 400 over their number, summed: 400 times their mean.
    total = box + 100 * errors[-1] + 100 * errors[0] + 400 * np.mean(errors[1:-1])
    assert terms.total.item() == pytest.approx(total, rel=1e-4)


def test_a_perfect_prediction_costs_nothing(batch: Batch, student: TrackerNetwork) -> None:
    label = score_labels(batch.test_boxes, student.settings)
    scores = torch.where(label < 0.05, -1.0, label).expand(6, *label.shape)
    perfect = Predictions(scores, 2 * batch.overlaps - 1, None)  # type: ignore[arg-type]
    assert tracking_loss(perfect, batch, label, TrackingLossSettings()).total.item() == 0


def test_labels_peak_at_the_target(batch: Batch, student: TrackerNetwork) -> None:
    label = score_labels(batch.test_boxes, student.settings)
    assert label.shape == (2, 2, 7, 7)
    center = (batch.test_boxes[..., :2] + batch.test_boxes[..., 2:] / 2) / 16
    for m in range(2):
        for s in range(2):
            x, y = center[m, s].tolist()
            if 0 <= x <= 6 and 0 <= y <= 6:
                assert label[m, s].argmax().item() == round(y) * 7 + round(x)
