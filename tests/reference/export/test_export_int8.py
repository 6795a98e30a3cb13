"""Int8: the quantized parts, the error, and the calibration crops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.cli.export import describe
from mmdistill.reference.export import files
from mmdistill.reference.export.graphs import features_graph
from mmdistill.reference.export.quantization import calibration_crops
from mmdistill.reference.export.runtime import (
    SATURATION_OPTION,
    OnnxGraph,
    SimulatedInt8Graph,
    cpu_instructions,
    int8_sums,
)
from mmdistill.reference.models.config import single_settings, student_settings
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.images import write_image

SETTINGS = student_settings(width=4, crop_size=96)


@pytest.fixture
def gray(tmp_path: Path) -> Path:
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


def test_crops_are_spread_over_a_folder_and_stay_paired(gray: Path) -> None:
    crops = calibration_crops(gray, SETTINGS, 5)
    assert [middle(crop.rgb) for crop in crops] == [0, 0, 40, 80, 80]
    assert [middle(crop.tir) for crop in crops] == [10, 10, 50, 90, 90]
    assert {tuple(image.shape) for crop in crops for image in crop} == {(1, 3, 96, 96)}


def test_one_folder_works_for_either_modality(gray: Path) -> None:
    for modality in ("rgb", "tir"):
        (crop,) = calibration_crops(gray / "tir", single_settings(modality, crop_size=96), 1)
        assert middle(getattr(crop, modality)) == 10


def test_crops_are_cut_inside_the_image(tmp_path: Path) -> None:
    """No padding: a gradient keeps its slope up to the crop's edges."""
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


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrackerNetwork, files.ExportedFile, Any]:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the files")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the files")
    torch.manual_seed(0)
    network = TrackerNetwork(student_settings(width=8, crop_size=96)).eval()
    crops = calibration_crops(None, network.settings, 12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "graphs", lambda network: [features_graph(fold_batch_norms(network))])
        path = tmp_path_factory.mktemp("int8") / "model.onnx"
        (written,) = files.write_files(network, path, "int8", crops)
    return network, written, onnx.load(written.path)


@pytest.mark.slow
def test_int8_is_near_and_small(quantized: tuple[TrackerNetwork, files.ExportedFile, Any]) -> None:
    network, written, model = quantized
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


@pytest.mark.slow
def test_both_errors_are_measured_and_kept(quantized: tuple[TrackerNetwork, files.ExportedFile, Any]) -> None:
    network, written, model = quantized
    metadata = OnnxGraph(written.path).metadata
    assert json.loads(metadata["int8_errors"]) == {"exact": written.errors, "saturated": written.saturated}
    assert written.saturated.keys() == written.errors.keys()
    assert written.saturated != written.errors  # these weights do saturate
    assert "VNNI" in metadata["int8_saturated_on"]
    assert SATURATION_OPTION in metadata["int8_remedy"]
    assert (metadata["format"], metadata["precision"]) == ("mmdistill-onnx-1", "int8")
    line = describe(written)
    assert all(f"by {max(errors.values()):.1e}" in line for errors in (written.errors, written.saturated))
    assert SATURATION_OPTION in line

    # Without saturation it is what onnxruntime computes, but for rounding: a step of 8 bits at most.
    crop = calibration_crops(None, network.settings, 1, seed=9)[0]
    for got, expected in zip(
        SimulatedInt8Graph(written.path, saturating=False)(*crop), OnnxGraph(written.path)(*crop), strict=True
    ):
        assert (got - expected).abs().max() <= 0.02 * expected.abs().max()
    sizes = {held.name: list(held.dims) for held in model.graph.initializer}
    assert any(dims == [8, 3, 7, 7] for dims in sizes.values())  # an odd number of products


@pytest.mark.slow
def test_sessions_use_the_saturation_option(quantized: tuple[TrackerNetwork, files.ExportedFile, Any]) -> None:
    options = OnnxGraph(quantized[1].path)._session.get_session_options()
    assert options.get_session_config_entry("session.x64quantprecision") == "1"


@pytest.mark.parametrize(
    ("values", "weights", "exact", "saturated"),
    [
        ([255, 255], [127, 127], 64770, 32767),
        ([255, 255], [-128, -128], -65280, -32768),
        ([255, 255], [127, -127], 0, 0),
        ([255, 255, 255], [64, 64, 127], 65025, 32640 + 32385),  # the third has no neighbor
        ([255, 255, 255, 255], [0, 127, 127, 0], 64770, 64770),  # neighbors are (0, 1) and (2, 3)
        ([255, 255, 255, 255], [100, 100, -100, -100], 0, -1),
    ],
)
def test_sums_of_two_products_are_cut(values: list[int], weights: list[int], exact: int, saturated: int) -> None:
    image, weight = torch.tensor(values).view(1, -1, 1, 1), torch.tensor(weights, dtype=torch.int8).view(1, -1, 1, 1)
    sums = [int(int8_sums(image, weight, (1, 1), (1, 1), saturating=cut)) for cut in (False, True)]
    assert sums == [exact, saturated]


@given(
    seed=st.integers(0, 2**31),
    channels=st.integers(1, 5),
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
)
@settings(max_examples=30)
def test_cut_sums_equal_a_loop(seed: int, channels: int, kernel: tuple[int, int], stride: int, dilation: int) -> None:
    draw = np.random.default_rng(seed)
    image = draw.integers(0, 256, (2, channels, 6, 5))
    weight = draw.integers(-128, 128, (3, channels, *kernel))
    got = int8_sums(
        torch.tensor(image), torch.tensor(weight), (stride, stride), (dilation, dilation), saturating=True
    ).numpy()
    for batch, output, row, column in np.ndindex(*got.shape):
        products = [
            int(image[batch, channel, row * stride + y * dilation, column * stride + x * dilation])
            * int(weight[output, channel, y, x])
            for y in range(kernel[0])
            for x in range(kernel[1])
            for channel in range(channels)
        ]
        pairs = [sum(products[start : start + 2]) for start in range(0, len(products), 2)]
        assert got[batch, output, row, column] == sum(min(max(each, -32768), 32767) for each in pairs)


@pytest.mark.parametrize(
    ("flags", "best"),
    [
        ("fpu sse4_1 avx2", "avx2"),
        ("avx2 avx512bw avx512_vnni", "avx512_vnni"),
        ("avx2 avx_vnni", "avx_vnni"),
        ("avx512bw avx2", "avx512bw"),
    ],
)
def test_the_machines_instructions_are_read(tmp_path: Path, flags: str, best: str) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nflags\t\t: {flags}\n\nprocessor\t: 1\n")
    assert cpu_instructions(tmp_path / "cpuinfo") == best
    assert cpu_instructions(tmp_path / "none")
