import numpy as np
import pytest
import torch
from helpers import GOLDEN

from mmdistill.reference.importing.published import rename_tensors
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import IoUNet
from mmdistill.reference.models.pooled_iou import PooledIoU, pooled_iou
from mmdistill.reference.models.windowed_iou import level_windows, windowed_iou

Golden = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def golden() -> Golden:
    values = np.load(GOLDEN / "iou_net.npz")
    return {name: torch.as_tensor(values[name]) for name in values.files}


@pytest.fixture
def network(golden: Golden) -> IoUNet:
    prefix = "params/"
    published = {f"bb_regressor.{name.removeprefix(prefix)}": value for name, value in golden.items()}
    network = IoUNet((4, 8), hidden=32, pooled=8)
    network.load_state_dict(rename_tensors(published, network.state_dict(), "iou_net."))
    return network.eval()


def test_golden_values_and_box_gradients(golden: Golden, network: IoUNet) -> None:
    def close(got: torch.Tensor, expected: torch.Tensor) -> None:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)

    modulation = network.modulate(golden["reference/0"], golden["reference/1"], golden["box_xywh"])
    close(modulation.level3, golden["modulation3"])
    close(modulation.level4, golden["modulation4"])
    features = network.features(golden["test/0"], golden["test/1"])
    close(features.level3, golden["test_feat3"])
    close(features.level4, golden["test_feat4"])
    boxes = golden["proposals_xywh"].clone().requires_grad_()
    iou = network.predict(modulation, features, boxes)
    close(iou, golden["iou"])
    iou.sum().backward()
    assert boxes.grad is not None
    torch.testing.assert_close(boxes.grad, golden["d_iou_d_proposals"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fold", [False, True])
@pytest.mark.parametrize("where", ["whole map", "window"])
def test_golden_box_gradients_by_hand(golden: Golden, network: IoUNet, fold: bool, where: str) -> None:
    network = fold_batch_norms(network) if fold else network
    levels = [golden["test/0"], golden["test/1"]]
    chosen = slice(0, 6) if where == "whole map" else slice(1, 6)  # the first is too large for a window
    boxes = golden["proposals_xywh"][:, chosen]
    with torch.no_grad():
        modulation = network.modulate(golden["reference/0"], golden["reference/1"], golden["box_xywh"])
        if where == "whole map":
            iou_function = pooled_iou(PooledIoU(network), modulation, network.features(*levels))
        else:
            windows = level_windows(boxes, 8.0, levels)
            assert windows is not None
            iou_function = windowed_iou(network, modulation, levels, windows)
        iou, gradient = iou_function(boxes)
        assert torch.equal(iou_function.gradient(boxes), gradient)
    torch.testing.assert_close(iou, golden["iou"][:, chosen], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(gradient, golden["d_iou_d_proposals"][:, chosen], rtol=1e-4, atol=1e-6)


def test_parameter_counts() -> None:
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
