"""Int8: the quantized parts, the error, and the calibration crops."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import need_exporter, run_by_opencv
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdistill.cli.export import describe
from mmdistill.reference.export import files
from mmdistill.reference.export.graphs import graphs
from mmdistill.reference.export.quantization import calibration_crops
from mmdistill.reference.export.runtime import (
    SATURATION_OPTION,
    OnnxGraph,
    SimulatedInt8Graph,
    cpu_instructions,
    int8_sums,
)
from mmdistill.reference.models.config import single_settings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.settings import PUBLISHED
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


def middle(crop: np.ndarray) -> int:
    """The red value of a crop's last pixel."""
    return int(crop[-1, -1, 0])


def test_crops_are_spread_over_a_folder_and_stay_paired(gray: Path) -> None:
    crops = calibration_crops(gray, SETTINGS, 5)
    assert [middle(crop.rgb) for crop in crops] == [0, 0, 40, 80, 80]
    assert [middle(crop.tir) for crop in crops] == [10, 10, 50, 90, 90]
    assert {image.shape for crop in crops for image in crop} == {(96, 96, 3)}


def test_one_folder_works_for_either_modality(gray: Path) -> None:
    for modality in ("rgb", "tir"):
        (crop,) = calibration_crops(gray / "tir", single_settings(modality, crop_size=96), 1)
        assert middle(getattr(crop, modality)) == 10


def test_crops_are_cut_inside_the_image(tmp_path: Path) -> None:
    """No padding: a gradient keeps its slope up to the crop's edges."""
    ramp = np.repeat(np.arange(200, dtype=np.uint8)[None, :, None], 100, axis=0).repeat(3, axis=2)
    write_image(tmp_path / "ramp.png", ramp)
    for crop in calibration_crops(tmp_path, SETTINGS, 20):
        row = crop.rgb[48, :, 0].astype(int)
        assert (row[90:] - row[84:90] > 0).all()
        assert (row[6:12] - row[:6] > 0).all()


def test_synthetic_crops_are_seeded() -> None:
    first, again, other = (calibration_crops(None, SETTINGS, 2, seed=seed) for seed in (3, 3, 4))
    assert np.array_equal(first[1].tir, again[1].tir)
    assert not np.array_equal(first[1].tir, other[1].tir)
    assert not np.array_equal(first[0].rgb, first[1].rgb)


def test_a_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected images"):
        calibration_crops(tmp_path, SETTINGS, 4)


@pytest.fixture(scope="module")
def quantized(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrackerNetwork, list[files.ExportedFile]]:
    need_exporter()
    torch.manual_seed(2)
    network = TrackerNetwork(student_settings(width=8, crop_size=96)).eval()
    crops = calibration_crops(None, network.settings, 12)
    return network, files.write_files(network, tmp_path_factory.mktemp("int8"), "int8", crops)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["start", "track"])
def test_int8_is_near_and_small(quantized: tuple[TrackerNetwork, list[files.ExportedFile]], name: str) -> None:
    network, (start, track, learn) = quantized
    written = start if name == "start" else track
    model = importlib.import_module("onnx").load(written.path)
    assert OnnxGraph(written.path).metadata["precision"] == "int8"
    assert OnnxGraph(learn.path).metadata["precision"] == "float32"
    graph = next(each for each in graphs(network, PUBLISHED) if each.name == name)
    assert tuple(written.errors) == graph.continuous
    assert 1e-4 < min(written.errors.values()) <= max(written.errors.values()) < 0.5
    inputs = files.with_crops(graph, calibration_crops(None, network.settings, 5, seed=9))[0]
    outputs = zip(graph.outputs, OnnxGraph(written.path)(*inputs), graph.run(*inputs), strict=True)
    for output, got, expected in outputs:
        if output in ("sample", "samples", "score_maps"):
            assert torch.corrcoef(torch.stack([got.flatten(), expected.flatten()]))[0, 1] > 0.95
    by_opencv = dict(zip(graph.outputs, run_by_opencv(written.path, graph, inputs), strict=True))
    sample = "samples" if name == "start" else "sample"
    expected = OnnxGraph(written.path)(*inputs)[list(graph.outputs).index(sample)]
    assert np.abs(by_opencv[sample] - expected.numpy()).max() < 0.1 * expected.abs().max()

    # Every convolution of trunk and extractor reads 8 bits, no other does.
    producers = {output: node.op_type for node in model.graph.node for output in node.output}
    bits = {node.input[1]: producers.get(node.input[0]) for node in model.graph.node if node.op_type == "Conv"}
    inside = {each: source for each, source in bits.items() if "trunks" in each or "extractor" in each}
    assert len(inside) == 15 + 3
    assert set(inside.values()) == {"DequantizeLinear"}
    assert "DequantizeLinear" not in {source for each, source in bits.items() if each not in inside}
    floats = [held for held in model.graph.initializer if held.data_type == 1 and "trunks" in held.name and held.dims]
    assert max(np.prod(held.dims) for held in floats) <= 32  # scales, one per channel


@pytest.mark.slow
def test_both_errors_are_measured_and_kept(quantized: tuple[TrackerNetwork, list[files.ExportedFile]]) -> None:
    network, (start, written, learn) = quantized
    for each in (start, written):
        metadata = OnnxGraph(each.path).metadata
        assert json.loads(metadata["int8_errors"]) == {"exact": each.errors, "saturated": each.saturated}
        assert each.saturated.keys() == each.errors.keys()
        assert each.saturated != each.errors  # these weights do saturate
        assert "VNNI" in metadata["int8_saturated_on"]
        assert SATURATION_OPTION in metadata["int8_remedy"]
        assert (metadata["format"], metadata["precision"]) == ("mmdistill-onnx-1", "int8")
        line = describe(each)
        assert all(f"by {max(errors.values()):.1e}" in line for errors in (each.errors, each.saturated))
        assert SATURATION_OPTION in line
    assert "VNNI" not in describe(learn)

    # Without saturation it is what onnxruntime computes, but for rounding: a step of 8 bits at most.
    graph = graphs(network, PUBLISHED)[1]
    (inputs,) = files.with_crops(graph, calibration_crops(None, network.settings, 1, seed=9))
    for output, got, expected in zip(
        graph.outputs,
        SimulatedInt8Graph(written.path, saturating=False)(*inputs),
        OnnxGraph(written.path)(*inputs),
        strict=True,
    ):
        if output in graph.continuous:
            assert (got - expected).abs().max() <= 0.03 * expected.abs().max()


@pytest.mark.slow
def test_sessions_use_the_saturation_option(quantized: tuple[TrackerNetwork, list[files.ExportedFile]]) -> None:
    options = OnnxGraph(quantized[1][0].path)._session.get_session_options()
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
