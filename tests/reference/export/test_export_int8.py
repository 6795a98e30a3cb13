"""Int8: which parts become it, that it is near, and the crops its ranges come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmdistill.reference.data.images import write_image
from mmdistill.reference.errors import DataError
from mmdistill.reference.export import files
from mmdistill.reference.export.calibration import calibration_crops
from mmdistill.reference.export.graphs import features_graph
from mmdistill.reference.export.session import OnnxGraph
from mmdistill.reference.networks.folded import folded
from mmdistill.reference.networks.settings import single_settings, student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork

SETTINGS = student_settings(width=4, crop_size=96)


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Pairs whose images have one value each: frame, then modality."""
    for frame, size in enumerate([(40, 60), (50, 50), (70, 30)]):
        for side, modality in enumerate(("rgb", "tir")):
            image = np.full((*size, 3), 40 * frame + 10 * side, np.uint8)
            image[0, 0] = 255  # a frame of one value counts as missing
            write_image(tmp_path / modality / f"{frame}.png", image)
    return tmp_path


def middle(crop: torch.Tensor) -> float:
    """The red value of a crop's last pixel, on the scale of images."""
    return round((float(crop[0, 0, -1, -1]) * 0.229 + 0.485) * 255)


def test_crops_are_spread_over_a_folder_and_stay_paired(grey: Path) -> None:
    crops = calibration_crops(grey, SETTINGS, 5)
    assert [middle(crop.rgb) for crop in crops] == [0, 0, 40, 80, 80]
    assert [middle(crop.tir) for crop in crops] == [10, 10, 50, 90, 90]
    assert {tuple(image.shape) for crop in crops for image in crop} == {(1, 3, 96, 96)}


def test_one_folder_serves_either_modality(grey: Path) -> None:
    for modality in ("rgb", "tir"):
        (crop,) = calibration_crops(grey / "tir", single_settings(modality, crop_size=96), 1)
        assert middle(getattr(crop, modality)) == 10


def test_crops_are_cut_inside_the_image(tmp_path: Path) -> None:
    """Nothing repeats a border: a gradient keeps its slope up to the crop's edges."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    write_image(tmp_path / "ramp.png", ramp)
    for crop in calibration_crops(tmp_path, SETTINGS, 20):
        rows = crop.rgb[0, 0, 48]
        assert (rows[90:] - rows[84:90] > 0).all()
        assert (rows[6:12] - rows[:6] > 0).all()


def test_synthetic_crops_are_seeded() -> None:
    first, again, other = (calibration_crops(None, SETTINGS, 2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first[1].tir, again[1].tir)
    assert not torch.equal(first[1].tir, other[1].tir)
    assert not torch.equal(first[0].rgb, first[1].rgb)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images"):
        calibration_crops(tmp_path, SETTINGS, 4)


@pytest.fixture
def quantised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[TrackerNetwork, files.Written, Any]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the files")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the files")
    torch.manual_seed(0)
    network = TrackerNetwork(student_settings(width=8, crop_size=96)).eval()
    monkeypatch.setattr(files, "graphs", lambda network: [features_graph(folded(network))])
    crops = calibration_crops(None, network.settings, 12)
    (written,) = files.write_files(network, tmp_path / "model.onnx", "int8", crops)
    return network, written, onnx.load(written.path)


def test_int8_is_near_and_small(quantised: tuple[TrackerNetwork, files.Written, Any]) -> None:
    network, written, model = quantised
    session = OnnxGraph(written.path)
    assert session.metadata["precision"] == "int8"
    assert 1e-4 < min(written.errors.values()) <= max(written.errors.values()) < 0.5
    crops = calibration_crops(None, network.settings, 3, seed=9)
    batch = [torch.cat(images) for images in zip(*crops, strict=True)]
    with torch.no_grad():
        fused = network.extract(crops[0]._replace(rgb=batch[0], tir=batch[1])).fused
    for got, expected in zip(session(*batch), fused, strict=False):
        together = torch.stack([got.flatten(), expected.flatten()])
        assert torch.corrcoef(together)[0, 1] > 0.97

    # Every convolution of trunk and classifier reads 8 bits, none of the fusion's does.
    producers = {name: node.op_type for node in model.graph.node for name in node.output}
    bits = {node.input[1]: producers.get(node.input[0]) for node in model.graph.node if node.op_type == "Conv"}
    inside = {name: source for name, source in bits.items() if "trunks" in name or "extractor" in name}
    assert len(inside) == 15 + 3
    assert set(inside.values()) == {"DequantizeLinear"}
    assert "DequantizeLinear" not in {source for name, source in bits.items() if name not in inside}
    floats = [held for held in model.graph.initializer if held.data_type == 1 and "trunks" in held.name and held.dims]
    assert max(np.prod(held.dims) for held in floats) <= 32  # scales, one per channel
