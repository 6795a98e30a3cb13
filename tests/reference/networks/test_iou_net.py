from pathlib import Path

import numpy as np
import pytest
import torch

from mmdistill.reference.networks.iou_net import IoUNet

PUBLISHED_NAMES = {
    "conv3_1r": "reference_level3",
    "conv4_1r": "reference_level4",
    "fc3_1r": "reference_pooled3",
    "fc34_3r": "modulation3",
    "fc34_4r": "modulation4",
    "conv3_1t": "test_level3.0",
    "conv3_2t": "test_level3.1",
    "conv4_1t": "test_level4.0",
    "conv4_2t": "test_level4.1",
    "fc3_rt": "box_level3",
    "fc4_rt": "box_level4",
    "iou_predictor": "predictor",
}


def test_golden_values_and_box_gradients(fixtures: Path) -> None:
    values = np.load(fixtures / "iou_net.npz")
    golden = {name: torch.as_tensor(values[name]) for name in values.files}
    state = {}
    for name, value in golden.items():
        if name.startswith("params/"):
            module, _, rest = name.removeprefix("params/").partition(".")
            state[f"{PUBLISHED_NAMES[module]}.{rest.replace('bn.', 'norm.')}"] = value
    network = IoUNet((8, 16), hidden=256, pooled=16)
    network.load_state_dict(state)
    network.eval()

    def close(got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    modulation = network.modulate(golden["reference/0"], golden["reference/1"], golden["box_xywh"])
    close(modulation.level3, golden["modulation3"])
    close(modulation.level4, golden["modulation4"])
    features = network.features(golden["test/0"], golden["test/1"])
    close(features.level3, golden["test_feat3"])
    close(features.level4, golden["test_feat4"])
    boxes = golden["proposals_xywh"].requires_grad_()
    iou = network.predict(modulation, features, boxes)
    close(iou, golden["iou"])
    iou.sum().backward()
    assert boxes.grad is not None
    torch.testing.assert_close(boxes.grad, golden["d_iou_d_proposals"], rtol=1e-4, atol=1e-6)


def test_parameters_are_counted_as_stated() -> None:
    assert sum(parameter.numel() for parameter in IoUNet((128, 256)).parameters()) == 5_595_521


@pytest.mark.parametrize("size", [(16, 16), (12, 20)])
def test_any_even_map_and_any_number_of_boxes(size: tuple[int, int]) -> None:
    network = IoUNet((4, 6), hidden=8).eval()
    level3, level4 = torch.randn(2, 4, *size), torch.randn(2, 6, size[0] // 2, size[1] // 2)
    boxes = torch.tensor([20.0, 30.0, 40.0, 25.0]).repeat(2, 3, 1)
    modulation = network.modulate(level3, level4, boxes[:, 0])
    iou = network.predict(modulation, network.features(level3, level4), boxes)
    assert iou.shape == (2, 3)
    torch.testing.assert_close(iou[:, 0], iou[:, 1])  # the same box asked twice
