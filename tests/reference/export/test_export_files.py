"""Exported files, run by onnxruntime and OpenCV, compared with the network before its batch norms are folded."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import (
    NAMES,
    SIDE,
    STUDENT,
    WIDTH,
    assert_rounding,
    need_exporter,
    run_by_opencv,
    unlisted_operators,
    untrained,
)

from mmdistill.cli.main import main
from mmdistill.pair import Pair
from mmdistill.reference.crops import to_tensor
from mmdistill.reference.export import files, runtime
from mmdistill.reference.export.files import FORMAT, to_onnx, write_files
from mmdistill.reference.export.graphs import Graph, graphs
from mmdistill.reference.export.runtime import OnnxGraph
from mmdistill.reference.models.config import NetworkSettings, single_settings, teacher_settings
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.settings_json import from_json
from mmdistill.reference.tracking.settings import PUBLISHED, PUBLISHED_ATOM, TrackingSettings
from mmdistill.reference.tracking.state import TargetState
from mmdistill.reference.tracking.step import TrackStep
from mmdistill.toolkit import progress
from mmdistill.toolkit.data_issues import DataError

need_exporter()
import onnx  # noqa: E402

ATOM = single_settings("tir", width=WIDTH, crop_size=64, classifier="atom")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, untrained())
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", "--weights", str(weights), "--out", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def in_half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[files.ExportedFile]]:
    folder = tmp_path_factory.mktemp("half")
    return folder, write_files(untrained(), folder, "float16")


@pytest.fixture(scope="module")
def atom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("atom")
    write_files(untrained(ATOM), folder, slots=2)
    return folder


@pytest.fixture
def network(weights: Path) -> TrackerNetwork:
    return load_network(weights)


def graph_of(network: TrackerNetwork, name: str, slots: int = 1) -> Graph:
    settings = PUBLISHED if network.classifier is not None else PUBLISHED_ATOM
    return graphs(network, settings, slots)[NAMES.index(name)]


def test_learning_quickly(tmp_path: Path) -> None:
    """The smallest file: each slot's own iterations; operators; OpenCV. The other files take longer."""
    network = untrained(single_settings("rgb", width=WIDTH, crop_size=64))
    graph = graph_of(network, "learn", slots=3)
    model = to_onnx(graph)
    assert unlisted_operators(model) == set()
    onnx.save(model, tmp_path / "learn.onnx")
    filters, samples, boxes, weights, _ = graph.draw(seed=4)
    inputs = (filters, samples, boxes, weights, torch.tensor([2, 0, 1], dtype=torch.int32))
    (got,) = OnnxGraph(tmp_path / "learn.onnx")(*inputs)
    assert network.classifier is not None
    with torch.no_grad():
        iterates = network.double().classifier.optimiser(*(x.double() for x in inputs[:3]), 2, weights.double())
    expected = torch.stack([iterates[2, 0], iterates[0, 1], iterates[1, 2]])
    assert_rounding(got, expected)
    (by_opencv,) = run_by_opencv(tmp_path / "learn.onnx", graph, inputs)
    assert_rounding(torch.from_numpy(by_opencv), expected)


@pytest.mark.slow
def test_the_first_frame(network: TrackerNetwork, exported: Path) -> None:
    """Against the network with its batch norms, in float64, step by step."""
    pixels, boxes, kept = graph_of(network, "start").draw(seed=5)
    filters, samples, *modulation = OnnxGraph(exported / "start.onnx")(pixels, boxes, kept)
    network.double()
    classifier = network.classifier
    assert classifier is not None
    with torch.no_grad():
        images = Pair(*(to_tensor(list(pixels[:, index].numpy())).double() for index in range(2)))
        shallow, deep = network.extract(images).fused
        features = classifier.features(deep[:, None])
        dropped = [features[0] * row[:, None, None] / 0.8 for row in kept]
        features = torch.cat([features, torch.stack(dropped)])
        targets = boxes.double()
        learned = classifier.learn(features, targets[:, None], 10)[-1]
        vectors = network.iou_net.modulate(shallow[:1], deep[:1], targets[:1])
    assert_rounding(samples, features[:, 0])
    assert_rounding(filters, learned, 1e-3)  # ten steps
    for got, expected in zip(modulation, vectors, strict=True):
        assert_rounding(got, expected)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 10))
def test_a_tracked_frame(network: TrackerNetwork, exported: Path, seed: int) -> None:
    """Against the step in float64, with IoU features in windows."""
    graph = graph_of(network, "track")
    inputs = list(graph.draw(seed))
    if seed == 5:
        inputs[2] *= 0.01  # not found
    if seed == 6:
        inputs[-1] -= inputs[-1] + 1  # no sample after the first frame's
    got = OnnxGraph(exported / "track.onnx")(*inputs)
    step = TrackStep(fold_batch_norms(network).double(), PUBLISHED, windowed=True)
    pixels, numbers, filters, *modulation, weights, count, newest = (
        x.double() if x.is_floating_point() else x.long() for x in inputs
    )
    with torch.no_grad():
        expected = step(TargetState((filters,), Modulation(*modulation), weights, count, newest), pixels, numbers)
    tensors = (expected.rows, expected.score_maps, expected.sample, expected.box, *expected.placement)
    for output, tensor in zip(got, tensors, strict=True):
        assert_rounding(output, tensor)
    assert float(got[0][0, 5]) == 3 or seed != 5
    assert float(got[0][0, 5]) < 3 or seed not in (6, 7)


@pytest.mark.slow
def test_slots_are_independent(network: TrackerNetwork, exported: Path, tmp_path: Path) -> None:
    graph = graph_of(network, "track", slots=3)
    onnx.save(to_onnx(graph), tmp_path / "three.onnx")
    inputs, alone = graph.draw(seed=7), OnnxGraph(exported / "track.onnx")
    together = OnnxGraph(tmp_path / "three.onnx")(*inputs)
    axes = {"weights": 1, "new_weights": 1}
    for slot in range(3):
        own = [x.narrow(axes.get(node.name, 0), slot, 1) for node, x in zip(graph.inputs, inputs, strict=True)]
        for name, got, expected in zip(graph.outputs, together, alone(*own), strict=True):
            assert_rounding(got.narrow(axes.get(name, 0), slot, 1), expected)


@pytest.mark.slow
def test_the_folder_holds_exactly_the_files(exported: Path, atom: Path) -> None:
    for folder in (exported, atom):
        assert {path.name for path in folder.iterdir()} == {f"{name}.onnx" for name in NAMES}
        for path in folder.iterdir():
            onnx.checker.check_model(path, full_check=True)


@pytest.mark.slow
def test_operators_and_types(exported: Path, atom: Path, in_half: tuple[Path, object]) -> None:
    """Only what every runtime has, fixed shapes, and inputs that bindings without int64 can feed."""
    for path in [*exported.iterdir(), *atom.iterdir(), *in_half[0].iterdir()]:
        model = onnx.load(path)
        assert unlisted_operators(model) == set(), path
        inferred = onnx.shape_inference.infer_shapes(model).graph
        types = {value.type.tensor_type.elem_type for value in inferred.value_info}
        types |= {held.data_type for held in inferred.initializer}
        assert onnx.TensorProto.DOUBLE not in types
        for value in (*inferred.input, *inferred.output):
            tensor = value.type.tensor_type
            assert tensor.elem_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32, onnx.TensorProto.UINT8)
            assert all(axis.dim_value and not axis.dim_param for axis in tensor.shape.dim), value.name


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_opencv_computes_the_same(network: TrackerNetwork, exported: Path, atom: Path, name: str) -> None:
    for each, folder, slots in ((network, exported, 1), (untrained(ATOM), atom, 2)):
        graph, path = graph_of(each, name, slots), folder / f"{name}.onnx"
        inputs = graph.draw(seed=8)
        for got, expected in zip(run_by_opencv(path, graph, inputs), OnnxGraph(path)(*inputs), strict=True):
            assert_rounding(torch.from_numpy(got), expected, 1e-3)


@pytest.mark.slow
def test_metadata(exported: Path) -> None:
    for name in NAMES:
        session = OnnxGraph(exported / f"{name}.onnx")
        assert (session.metadata["format"], session.metadata["graph"]) == (FORMAT, name)
        assert from_json(NetworkSettings, session.metadata["network"]) == STUDENT
        assert from_json(TrackingSettings, session.metadata["tracking"]) == PUBLISHED
        assert (session.metadata["crop_size"], session.metadata["precision"]) == (str(SIDE), "float32")
        model = onnx.load(exported / f"{name}.onnx").graph
        for kind, nodes in (("inputs", model.input), ("outputs", model.output)):
            assert set(files.json.loads(session.metadata[kind])) == {node.name for node in nodes}


@pytest.mark.slow
def test_half_precision(network: TrackerNetwork, in_half: tuple[Path, list[files.ExportedFile]]) -> None:
    start, track, learn = in_half[1]
    assert set(start.errors) == {"filters", "samples", "modulation3", "modulation4"}
    assert set(track.errors) == {"score_maps", "sample"}
    for written in (start, track):
        assert 1e-5 < max(written.errors.values()) < 0.05
        assert OnnxGraph(written.path).metadata["precision"] == "float16"
        held = {x.name: x.data_type for x in onnx.load(written.path).graph.initializer}
        assert any("trunks" in name for name in held)
        assert {kind for name, kind in held.items() if "trunks" in name} == {onnx.TensorProto.FLOAT16}
    assert OnnxGraph(learn.path).metadata["precision"] == "float32"
    graph = graph_of(network, "track")
    inputs = graph.draw(seed=4)
    rows = OnnxGraph(track.path)(*inputs)[0]
    assert (rows - graph.run(*inputs)[0])[0, :4].abs().max() < 0.5  # pixels


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        single_settings("rgb", depth=50, width=WIDTH, crop_size=64),
        teacher_settings(width=WIDTH, crop_size=64),
        replace(STUDENT, crop_size=64, fusion="concat"),
        *(
            pytest.param(replace(STUDENT, crop_size=64, fusion=fusion), marks=pytest.mark.nightly)
            for fusion in ("mpsd-layer-norm", "spatial", "channel")
        ),
    ],
    ids=lambda settings: f"{settings.fusion}-{settings.depth}",
)
def test_other_networks(settings: NetworkSettings, tmp_path: Path) -> None:
    network, path = untrained(settings), tmp_path / "track.onnx"
    graph = graph_of(network, "track", slots=2)
    model = to_onnx(graph)
    assert unlisted_operators(model) == set()
    onnx.save(model, path)
    inputs = graph.draw(seed=3)
    assert inputs[0].shape == (2, 2 if settings.modality == "rgbt" else 1, 64, 64, 3)
    runtime.check_errors(runtime.relative_errors(graph, path, [inputs]), graph.max_error, path)
    for got, expected in zip(run_by_opencv(path, graph, inputs), graph.run(*inputs), strict=True):
        assert_rounding(torch.from_numpy(got), expected, 1e-3)


def test_atoms_first_frame_ends_before_its_target_model() -> None:
    network = untrained(ATOM)
    start, track, learn = graphs(network, PUBLISHED_ATOM)
    assert list(start.outputs) == ["features", "modulation3", "modulation4"]
    assert "not included" in start.summary
    assert [node.name for node in track.inputs[:4]] == ["pixels", "numbers", "projection", "filters"]
    assert list(learn.outputs) == ["new_filters"]
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())  # left as it was


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "learn.onnx").write_text("an earlier one")
    network = untrained(single_settings("rgb", width=WIDTH, crop_size=64))
    other = copy.deepcopy(network)
    assert other.classifier is not None
    with torch.no_grad():
        other.classifier.optimiser.log_step_length += 0.1
    wrong = graph_of(other, "learn")
    monkeypatch.setattr(files, "graphs", lambda network, *_, **__: [graph_of(network, "learn")])
    monkeypatch.setattr(files, "to_onnx", lambda _: to_onnx(wrong))
    with pytest.raises(DataError, match=r"learn\.onnx: not written, it differs from the network: new_filters"):
        write_files(network, tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


@pytest.mark.slow
def test_each_file_is_a_line_of_progress(
    network: TrackerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.0)
    monkeypatch.setattr(files, "graphs", lambda network, *_, **__: [graph_of(network, "learn")])
    write_files(network, tmp_path)
    assert capsys.readouterr().err.startswith("exporting: file 1 of 1, ")
    write_files(network, tmp_path, progress=False)
    assert capsys.readouterr().err == ""


def test_the_check_refuses_nan(network: TrackerNetwork) -> None:
    graph = graph_of(network, "learn")
    inputs = graph.draw(seed=1)
    errors = runtime.relative_errors(graph, lambda *_: (torch.full_like(inputs[0], float("nan")),), [inputs])
    with pytest.raises(DataError, match="new_filters by inf"):
        runtime.check_errors(errors, graph.max_error, "learn.onnx")


def test_the_operator_check_finds_each_kind() -> None:
    helper, kinds = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("NonZero", ["x"], ["positions"]),
        helper.make_node("Clip", ["count"], ["clipped"]),
        helper.make_node("Slice", ["x", "count", "count"], ["part"]),
        helper.make_node("Where", ["mask", "x", "x"], ["chosen"]),
    ]
    inputs = [("x", kinds.FLOAT), ("count", kinds.INT64), ("mask", kinds.BOOL)]
    graph = helper.make_graph(nodes, "graph", [helper.make_tensor_value_info(*each, [1]) for each in inputs], [])
    found = unlisted_operators(helper.make_model(graph, opset_imports=[helper.make_opsetid("", files.OPSET)]))
    assert found == {"NonZero of float32", "Clip of int64", "Slice with computed inputs"}


def test_random_inputs_are_valid_and_differ(network: TrackerNetwork) -> None:
    for graph in graphs(network, PUBLISHED, slots=2):
        first, again, other = (graph.draw(seed) for seed in (1, 1, 2))
        for node, one, same, another in zip(graph.inputs, first, again, other, strict=True):
            assert (tuple(one.shape), one.dtype) == (node.shape, node.dtype)
            assert torch.equal(one, same)
            assert node.name in ("iterations", "newest") or not torch.equal(one, another)
        outputs = dict(zip(graph.outputs, graph.run(*first), strict=True))
        assert all(values.isfinite().all() for values in outputs.values())


def test_crops_fill_the_last_call(network: TrackerNetwork) -> None:
    crops = [Pair(*np.full((2, SIDE, SIDE, 3), value, np.uint8)) for value in range(15)]
    first, second = files.with_crops(graph_of(network, "start"), crops)
    assert first[0][:, 0, 0, 0, 0].tolist() == list(range(13))
    assert second[0][:, 1, 5, 5, 2].tolist() == [13, 14, *range(11)]
