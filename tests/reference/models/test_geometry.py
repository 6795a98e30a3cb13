import numpy as np
import pytest
import torch
from helpers import GOLDEN

from mmdistill.reference.models.dimp_classifier import distance_to_center, gaussian_label


def test_golden_label() -> None:
    values = np.load(GOLDEN / "labels_and_hinge.npz")
    cells = int(values["feature_size"])
    size = cells + 1 - int(values["kernel_size"]) % 2
    stride = int(values["image_size"]) / cells
    sigma = float(values["sigma_factor"]) * cells
    label = gaussian_label(torch.as_tensor(values["boxes_xywh"]), (size, size), stride, sigma)
    torch.testing.assert_close(label, torch.as_tensor(values["gaussian_label"]), rtol=1e-4, atol=1e-6)


def test_distance_is_measured_in_cells_per_axis() -> None:
    box = torch.tensor([[28.0, 36.0, 8.0, 24.0]])  # center 32, 48: cell x 2, y 3
    distance = distance_to_center(box, (5, 7), stride=16)[0]
    assert distance.shape == (5, 7)
    assert distance[3, 2].item() == 0
    assert distance[3, 6].item() == pytest.approx(4)
    assert distance[0, 2].item() == pytest.approx(3)
    assert distance[0, 6].item() == pytest.approx(5)
