"""export_precision.py tracks on each backend's features."""

from __future__ import annotations

import copy
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mmdistill import Pair
from mmdistill.reference.models.config import NetworkSettings, single_settings, student_settings
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.tracking.tracker import track_batch
from mmdistill.toolkit.evaluation.metrics import score_benchmark, score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores

NETWORKS = {
    "rgbt": student_settings(width=4, crop_size=96),
    "rgb": single_settings("rgb", width=4, crop_size=96),
    "tir": single_settings("tir", width=4, crop_size=96),
}


@pytest.fixture
def export_backends(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("parts.export.backends", monkeypatch)


@pytest.fixture
def export_tracking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("parts.export.tracking", monkeypatch)


@pytest.fixture
def export_precision(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("export_precision", monkeypatch)


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
    return importlib.import_module(name)


def untrained(settings: NetworkSettings, seed: int = 0) -> TrackerNetwork:
    torch.manual_seed(seed)
    return TrackerNetwork(settings).eval()


def images(seed: int) -> Pair[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return Pair(*torch.randn(2, 3, 3, 96, 96, generator=generator))


def videos(length: int = 8) -> Any:
    return synthetic_sequences(2, seed=5, settings=SyntheticSettings(length=length))


@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_tracking_on_a_networks_own_features_gives_its_boxes(
    settings: NetworkSettings, export_backends: ModuleType
) -> None:
    """The backend network's own trunk and classification features are not used."""
    network, other = untrained(settings), untrained(settings, seed=1)
    stranger = copy.deepcopy(network)
    for name in ("trunks", "fusions"):
        getattr(stranger, name).load_state_dict(getattr(other, name).state_dict())
    stranger.classifier.extractor.load_state_dict(other.classifier.extractor.state_dict())
    backend_network = export_backends.BackendNetwork(stranger, export_backends.by_pytorch(network))
    expected, got, without = (track_batch(each, videos()) for each in (network, backend_network, stranger))
    for mine, theirs, others in zip(got, expected, without, strict=True):
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
        np.testing.assert_array_equal(mine.scores, theirs.scores)
        assert not np.allclose(mine.scores, others.scores)


def test_classification_features_belong_to_the_last_images(export_backends: ModuleType) -> None:
    network = untrained(NETWORKS["rgbt"])
    backend_network = export_backends.BackendNetwork(network, export_backends.by_pytorch(network))
    backend_network.extract(images(0))
    level4 = backend_network.extract(images(1)).fused[1]
    with torch.no_grad():
        expected = network.classifier.features(network.extract(images(1)).fused[1][:, None])
    torch.testing.assert_close(backend_network.classifier.features(level4[:, None]), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match="the 3 images last extracted, got 2"):
        backend_network.classifier.features(level4[None, :2])


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_only_the_networks_modality_is_used(modality: str, export_backends: ModuleType) -> None:
    network = untrained(NETWORKS[modality])
    backend, pair, other = export_backends.by_pytorch(network), images(0), images(1)
    same = other._replace(**{modality: getattr(pair, modality)})
    assert all(map(torch.equal, backend(pair), backend(same)))
    assert not any(map(torch.equal, backend(pair), backend(other)))


def test_every_backend_is_tracked_with_every_seed(export_backends: ModuleType, export_tracking: ModuleType) -> None:
    network = untrained(NETWORKS["rgb"], seed=1)
    right = export_backends.by_pytorch(network)
    by_backend = {"right": right, "wrong": lambda pair: [level.flip(-1) for level in right(pair)]}
    runs = export_tracking.track_with_each(network, by_backend, videos(), seeds=2)
    for seed in range(2):
        tracked = track_batch(network, videos(), seed=seed)
        boxes = {video.name: track.boxes for video, track in zip(videos(), tracked, strict=True)}
        assert runs["right"][seed].scores.overall.rates() == scored(boxes).overall.rates()
        for name, expected in boxes.items():
            np.testing.assert_array_equal(runs["right"][seed].boxes[name], expected)
        assert any(not np.allclose(runs["wrong"][seed].boxes[name], boxes[name], atol=1) for name in boxes)


def scored(boxes: dict[str, Any]) -> BenchmarkScores:
    return score_sequences(boxes, videos(), PROTOCOLS["vot"])


def test_an_initialized_tracker_tracks_the_following_frames(
    export_backends: ModuleType, export_tracking: ModuleType
) -> None:
    network, video = untrained(NETWORKS["tir"]), videos()[0]
    (update,) = export_tracking.start_trackers(network, {"one": export_backends.by_pytorch(network)}, video).values()
    (expected,) = track_batch(network, [video])
    for number in range(1, len(video)):
        np.testing.assert_array_equal(update(video.frame(number))[0], expected.boxes[number])


TRUTH = np.tile([10.0, 10.0, 20.0, 20.0], (4, 1))


def run(module: ModuleType, misses: int) -> Any:
    """Two videos of four frames; the last frames of the first are missed."""
    boxes = {"a": TRUTH.copy(), "b": TRUTH}
    boxes["a"][4 - misses :, 0] += 100
    return module.Run(boxes, score_benchmark(boxes, dict.fromkeys(boxes, (TRUTH,)), PROTOCOLS["vot"]))


def test_summary_by_hand(export_tracking: ModuleType) -> None:
    runs = [run(export_tracking, misses) for misses in (1, 3)]
    # PR of a is 75 and 25, of b 100, so 87.5 and 62.5 over both; a perfect SR is 20 thresholds of 21.
    perfect = 2000 / 21
    found = export_tracking.summary(runs, [run(export_tracking, 0)] * 2)
    assert found["PR"] == [75.0, round(25 / 2**0.5, 1)]
    assert found["SR"] == [round(0.75 * perfect, 1), round(0.25 * perfect / 2**0.5, 1)]
    assert found["IoU"] == 0.75
    assert found["videos"]["a"] == {"PR": 50.0, "SR": round(perfect / 2, 1), "IoU": 0.5}
    assert export_tracking.summary(runs[:1], runs[:1])["PR"] == [87.5, 0.0]

    report = {"time of tracking": {"one": {"milliseconds": 40.2, "ratio": 0.5}}, "tracking": {"made": {"one": found}}}
    assert export_tracking.tracking_table(report)[-1] == "| one | 40 | 0.50 | 75.0 ± 17.7 | 71.4 ± 16.8 | 0.75 |"


def test_the_first_backend_is_compared_with_its_next_seed(export_tracking: ModuleType) -> None:
    first, other = ([run(export_tracking, misses) for misses in each] for each in ((0, 2), (0, 1)))
    found = export_tracking.summaries({"first": first, "other": other})
    # Frames of video a that agree: 2 and 2 of 4; 4 and 3 of 4.
    assert found["first"]["videos"]["a"]["IoU"] == 0.5
    assert found["other"]["videos"]["a"]["IoU"] == 0.875
    assert export_tracking.summaries({"first": first[1:]})["first"]["IoU"] == 1


def test_times_are_compared_with_the_base(export_precision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(export_precision.time, "perf_counter", lambda: clock[0])

    def takes(share: float) -> Any:
        return lambda seconds: clock.__setitem__(0, clock[0] + share * seconds)

    by_backend = {"PyTorch float32": takes(1.0), "other": takes(0.25)}
    found = export_precision.time_in_turns(by_backend, [9.0, 9.0, 0.1, 0.2, 0.4])
    assert found["PyTorch float32"] == {"milliseconds": 200.0, "ratio": 1.0}
    assert found["other"] == {"milliseconds": 50.0, "ratio": 0.25}


@pytest.mark.slow
def test_everything_is_measured_for_one_modality(export_precision: ModuleType) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the files")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the files")
    experiment = export_precision.Experiment(calibration=4, samples=1, rounds=1, videos=1, seeds=1)
    report = export_precision.measure(untrained(NETWORKS["tir"]), experiment, real=videos())
    errors = {name: max(found.values()) for name, found in report["features"].items()}
    assert errors.pop("PyTorch float32") == 0
    assert errors["onnxruntime float32"] < 1e-4 < errors["PyTorch bfloat16"] < 0.1
    assert 1e-3 < errors["onnxruntime int8"] < 0.5
    assert set(report["tracking"]) == {"synthetic", "real"}
    assert report["time of tracking"]["PyTorch float32"]["ratio"] == 1
    for by_backend in report["tracking"].values():
        assert by_backend["onnxruntime float32"]["IoU"] > 0.99
        assert list(by_backend) == list(report["features"])
