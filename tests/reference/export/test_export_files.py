"""Exported files, run by onnxruntime, compared with the network, its batch norms and autograd."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmdistill.cli.main import main
from mmdistill.pair import Pair
from mmdistill.reference.crops import to_tensor
from mmdistill.reference.export import files, runtime
from mmdistill.reference.export.files import FORMAT, to_onnx
from mmdistill.reference.export.graphs import Graph, Input, features_graph, graphs
from mmdistill.reference.export.runtime import OnnxGraph
from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings, teacher_settings
from mmdistill.reference.models.folding import fold_batch_norms
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.settings_json import from_json
from mmdistill.toolkit.data_issues import DataError

onnx = pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the files")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the files")
pytestmark = pytest.mark.skipif(
    torch.__version__ < "2.7", reason="the ONNX exporter of PyTorch 2.6 leaves too much open"
)

SIDE, WIDTH = 96, 4
STUDENT = student_settings(width=WIDTH, crop_size=SIDE)
PARTS = ("", ".scores", ".initialiser", ".optimiser", ".modulation", ".box_maps", ".boxes")
Sessions = Callable[[str], OnnxGraph]


def untrained(settings: NetworkSettings) -> TrackerNetwork:
    """A network with random statistics in its batch norms."""
    torch.manual_seed(0)
    network = TrackerNetwork(settings)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, untrained(STUDENT))
    return path


@pytest.fixture(scope="module")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    assert main(["export", "--weights", str(weights), "--out", str(folder)]) == 0
    return folder


@pytest.fixture
def network(weights: Path) -> TrackerNetwork:
    return load_network(weights)


@pytest.fixture
def session(exported: Path) -> Sessions:
    return lambda part: OnnxGraph(exported / f"model{part}.onnx", threads=1)


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def boxes(*shape: int) -> Tensor:
    return 20 + 30 * torch.rand(*shape, 4, generator=torch.Generator().manual_seed(7))


def assert_rounding(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.slow
def test_the_folder_holds_exactly_the_files(exported: Path) -> None:
    assert {path.name for path in exported.iterdir()} == {f"model{part}.onnx" for part in PARTS}
    for path in exported.iterdir():
        onnx.checker.check_model(path, full_check=True)
        assert "Col2Im" not in {node.op_type for node in onnx.load(path).graph.node}  # many runtimes lack it


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.slow
def test_features(network: TrackerNetwork, session: Sessions, batch: int) -> None:
    images = Pair(draw(batch, 3, SIDE, SIDE), draw(batch, 3, SIDE, SIDE) / 2)
    fused = network.extract(images).fused
    assert network.classifier is not None
    for got, expected in zip(
        session("")(*images), [*fused, network.classifier.features(fused[1][None])[0]], strict=True
    ):
        assert_rounding(got, expected)


@pytest.mark.parametrize("batch", [1, 2, 5])
@pytest.mark.slow
def test_scores(session: Sessions, batch: int) -> None:
    filters, features = draw(batch, 16, 4, 4), draw(batch, 16, 6, 6)
    padded = nn.functional.pad(features, (2, 2, 2, 2))
    expected = [nn.functional.conv2d(x[None], y[None])[0, 0] for x, y in zip(padded, filters, strict=True)]
    assert_rounding(session(".scores")(filters, features)[0], torch.stack(expected))


@pytest.mark.parametrize(("frames", "batch"), [(1, 1), (3, 2), (15, 1)])
@pytest.mark.slow
def test_the_filter_is_learned_with_the_files_only(
    network: TrackerNetwork, session: Sessions, frames: int, batch: int
) -> None:
    classifier = network.classifier
    assert classifier is not None
    features, targets = draw(frames, batch, 16, 6, 6), boxes(frames, batch)
    filters = session(".initialiser")(features, targets)[0]
    assert_rounding(filters, classifier.initialiser(features, targets))
    step, equal = session(".optimiser"), torch.full((frames, batch), 1 / frames)
    for _ in range(3):
        filters = step(filters, features, targets, equal)[0]
    assert_rounding(filters, classifier.learn(features, targets, 3)[-1])
    shares = torch.rand(frames, batch).softmax(dim=0)
    expected = classifier.optimiser(filters, features, targets, 1, shares)[-1]
    assert_rounding(step(filters, features, targets, shares)[0], expected)


@pytest.mark.parametrize(("batch", "count"), [(1, 1), (2, 10)])
@pytest.mark.slow
def test_iou_and_its_gradient(network: TrackerNetwork, session: Sessions, batch: int, count: int) -> None:
    iou_net = network.iou_net
    levels = draw(batch, 8, 12, 12), draw(batch, 16, 6, 6)
    modulation = session(".modulation")(*levels, boxes(batch))
    for got, expected in zip(modulation, iou_net.modulate(*levels, boxes(batch)), strict=True):
        assert_rounding(got, expected)
    asked = boxes(batch, count) + torch.arange(count)[:, None]
    iou, gradient = session(".boxes")(*session(".box_maps")(*levels, *modulation), asked)
    with torch.enable_grad():
        leaf = asked.clone().requires_grad_()
        predicted = iou_net.predict(iou_net.modulate(*levels, boxes(batch)), iou_net.features(*levels), leaf)
        (expected,) = torch.autograd.grad(predicted.sum(), leaf)
    assert_rounding(iou, predicted.detach())
    assert_rounding(gradient, expected)


@pytest.mark.slow
def test_metadata_describes_the_inputs(exported: Path) -> None:
    for part in PARTS:
        metadata = OnnxGraph(exported / f"model{part}.onnx").metadata
        assert metadata["format"] == FORMAT
        assert metadata["graph"] == (part[1:] or "features")
        assert from_json(NetworkSettings, metadata["network"]) == STUDENT
        assert (metadata["crop_size"], metadata["precision"]) == ("96", "float32")
    # Following the metadata gives what the tracker feeds.
    mean, deviation = (torch.tensor(json.loads(metadata[key])) for key in ("mean", "deviation"))
    image = torch.arange(SIDE * SIDE * 3).remainder(256).view(SIDE, SIDE, 3).to(torch.uint8)
    fed = ((image / 255 - mean) / deviation).permute(2, 0, 1)[None]
    torch.testing.assert_close(fed, to_tensor([image.numpy()]))


@pytest.mark.slow
def test_open_axes(exported: Path) -> None:
    def axes(part: str) -> dict[str, list[str | int]]:
        graph = onnx.load(exported / f"model{part}.onnx").graph
        dims = {given.name: given.type.tensor_type.shape.dim for given in (*graph.input, *graph.output)}
        return {name: [axis.dim_param or axis.dim_value for axis in shape] for name, shape in dims.items()}

    assert axes("")["rgb"] == axes("")["tir"] == ["batch", 3, SIDE, SIDE]
    assert axes("")["level3"] == ["batch", 8, 12, 12]
    assert axes(".scores")["scores"] == ["batch", 7, 7]
    assert axes(".optimiser")["classification"] == ["frames", "batch", 16, 6, 6]
    assert axes(".boxes")["gradient"] == ["batch", "boxes", 4]


@pytest.mark.parametrize(
    "settings",
    [
        single_settings("tir", width=WIDTH, crop_size=SIDE, classifier="atom"),
        pytest.param(single_settings("rgb", width=WIDTH, crop_size=SIDE), marks=pytest.mark.slow),
        pytest.param(teacher_settings(width=WIDTH, crop_size=64), marks=pytest.mark.slow),
    ],
    ids=["ATOM on TIR", "DiMP on RGB", "teacher"],
)
def test_other_networks(settings: NetworkSettings, tmp_path: Path) -> None:
    network, side = untrained(settings), settings.crop_size
    graph = features_graph(fold_batch_norms(network))
    onnx.save(to_onnx(graph, settings), tmp_path / "model.onnx")
    names = ("rgb", "tir") if settings.modality == "rgbt" else (settings.modality,)
    assert tuple(given.name for given in graph.inputs) == names
    images = [draw(3, 3, side, side) * (1 + place) for place in range(len(names))]
    fused = network.extract(Pair(images[0], images[-1])).fused
    if network.classifier is not None:
        fused = [*fused, network.classifier.features(fused[1][None])[0]]
    for got, expected in zip(OnnxGraph(tmp_path / "model.onnx")(*images), fused, strict=True):
        assert_rounding(got, expected)


def test_atom_has_no_files_for_its_filter() -> None:
    network = untrained(single_settings("rgb", width=WIDTH, crop_size=SIDE, classifier="atom"))
    assert [graph.name for graph in graphs(network)] == ["", "modulation", "box_maps", "boxes"]
    assert any(isinstance(module, nn.BatchNorm2d) for module in network.modules())  # left as it was


@pytest.mark.slow
def test_a_file_that_differs_is_not_written(
    network: TrackerNetwork, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.scores.onnx").write_text("an earlier one")
    scores, initializer = graphs(network)[1:3]
    monkeypatch.setattr(files, "graphs", lambda _: [scores, initializer])
    other = graphs(untrained(STUDENT))[2]
    other.module.convolution.weight *= 1.01  # type: ignore[operator, union-attr]
    monkeypatch.setattr(
        files, "to_onnx", lambda graph, settings: to_onnx(other if graph is initializer else graph, settings)
    )
    with pytest.raises(DataError, match=r"model\.initialiser\.onnx: not written, it differs from the network: filters"):
        files.write_files(network, tmp_path / "model.onnx")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


def test_an_axis_that_does_not_stay_open_is_an_error() -> None:
    class Halves(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.view(2, 3, SIDE, SIDE) * 2

    graph = Graph("halves", "", Halves(), (Input("images", ("batch", 3, SIDE, SIDE)),), ("doubled",))
    with pytest.raises(
        RuntimeError, match=r"halves: expected images \('batch', 3, 96, 96\), got images \(2, 3, 96, 96\)"
    ):
        to_onnx(graph, STUDENT)


@pytest.mark.slow
def test_the_check_refuses_nan(network: TrackerNetwork, exported: Path) -> None:
    graph = features_graph(fold_batch_norms(network))
    broken = [
        tuple(torch.full_like(image, float("nan")) for image in inputs) for inputs in runtime.random_inputs(graph, SIDE)
    ]
    with pytest.raises(DataError, match="level3 by inf"):
        runtime.check_errors(runtime.relative_errors(graph, exported / "model.onnx", broken), "model.onnx")


def test_invalid_arguments_are_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, status: int = 1) -> str:
        assert main(["export", *map(str, arguments)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        return line

    given = ("--weights", weights, "--out", tmp_path / "out")
    file = tmp_path / "out" / "model.onnx"
    assert f"--out: expected a folder, got the file {file}" in fails("--weights", weights, "--out", file, status=2)
    with pytest.raises(DataError, match=r"model\.pt: expected a name that ends in \.onnx"):
        files.write_files(untrained(STUDENT), tmp_path / "model.pt")
    assert "none: there is no such file" in fails("--weights", tmp_path / "none", "--out", tmp_path / "out")
    assert "--calibration: is for --precision int8" in fails(*given, "--calibration", tmp_path, status=2)
    int8 = (*given, "--precision", "int8")
    assert "at least 4 crops for calibration, got 3" in fails(*int8, "--crops", 3)
    assert main(["export", *map(str, int8), "--crops", "0"]) == 2
    assert "--crops: expected a whole number from 1" in capsys.readouterr().err
    assert f"{tmp_path / 'away'}" in fails(*int8, "--calibration", tmp_path / "away")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(runtime.importlib, "import_module", missing)
    assert "onnx is not installed; pip install 'mmdistill[export]'" in fails(*given)
    assert not (tmp_path / "out").exists()


def test_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        OnnxGraph(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"model\.onnx: onnxruntime can't load it"):
        OnnxGraph(tmp_path / "model.onnx")
