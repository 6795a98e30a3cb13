"""The benchmark of exported networks tracks on the features that it says it tracks on."""

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
from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.evaluation.rules import RULES
from mmdistill.reference.evaluation.scoring import BenchmarkScores, score_sequences
from mmdistill.reference.networks.settings import NetworkSettings, single_settings, student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.track_batch import track_batch

NETWORKS = {
    "rgbt": student_settings(width=4, crop_size=96),
    "rgb": single_settings("rgb", width=4, crop_size=96),
    "tir": single_settings("tir", width=4, crop_size=96),
}


@pytest.fixture
def export_backends(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("export_backends", monkeypatch)


@pytest.fixture
def export_tracking(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("export_tracking", monkeypatch)


@pytest.fixture
def export_precision(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("export_precision", monkeypatch)


def benchmark(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
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
def test_tracking_on_a_networks_features_is_tracking_with_it(
    settings: NetworkSettings, export_backends: ModuleType
) -> None:
    """And nothing else is: the stand-in's own trunk and classification features are another network's."""
    network, other = untrained(settings), untrained(settings, seed=1)
    stranger = copy.deepcopy(network)
    for name in ("trunks", "fusions"):
        getattr(stranger, name).load_state_dict(getattr(other, name).state_dict())
    stranger.classifier.extractor.load_state_dict(other.classifier.extractor.state_dict())
    stand_in = export_backends.FeaturesBy(stranger, export_backends.by_pytorch(network))
    expected, got, without = (track_batch(each, videos()) for each in (network, stand_in, stranger))
    for mine, theirs, others in zip(got, expected, without, strict=True):
        np.testing.assert_array_equal(mine.boxes, theirs.boxes)
        np.testing.assert_array_equal(mine.scores, theirs.scores)
        assert not np.allclose(mine.scores, others.scores)


def test_classification_features_go_to_the_images_they_are_of(export_backends: ModuleType) -> None:
    network = untrained(NETWORKS["rgbt"])
    stand_in = export_backends.FeaturesBy(network, export_backends.by_pytorch(network))
    stand_in.extract(images(0))
    level4 = stand_in.extract(images(1)).fused[1]
    with torch.no_grad():
        expected = network.classifier.features(network.extract(images(1)).fused[1][:, None])
    torch.testing.assert_close(stand_in.classifier.features(level4[:, None]), expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(RuntimeError, match="the 3 images last extracted, got 2"):
        stand_in.classifier.features(level4[None, :2])


@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_one_modality_alone_is_seen(modality: str, export_backends: ModuleType) -> None:
    network = untrained(NETWORKS[modality])
    backend, pair, other = export_backends.by_pytorch(network), images(0), images(1)
    same = other._replace(**{modality: getattr(pair, modality)})
    assert all(map(torch.equal, backend(pair), backend(same)))
    assert not any(map(torch.equal, backend(pair), backend(other)))


def test_the_first_contestant_is_the_measure_of_the_others(export_tracking: ModuleType) -> None:
    backends = importlib.import_module("export_backends")
    network = untrained(NETWORKS["rgb"])
    right = backends.by_pytorch(network)
    contestants = {"right": right, "wrong": lambda pair: [level.flip(-1) for level in right(pair)], "again": right}
    runs = export_tracking.track_by_each(network, contestants, videos(), seeds=2)
    for seed in range(2):
        tracked = track_batch(network, videos(), seed=seed)
        boxes = {video.name: track.boxes for video, track in zip(videos(), tracked, strict=True)}
        expected = score_sequences(boxes, videos(), RULES["vot"]).overall.figures()
        assert runs["right"][seed].scores.overall.figures() == expected
        assert set(runs["again"][seed].overlaps.values()) == {1.0}
        assert max(runs["wrong"][seed].overlaps.values()) < 0.999


def test_the_summary_is_that_by_hand(export_tracking: ModuleType) -> None:
    truth = np.tile([10.0, 10.0, 20.0, 20.0], (4, 1))
    runs = []
    for misses in (1, 3):
        boxes = truth.copy()
        boxes[4 - misses :, 0] += 100
        scores = {"a": boxes, "b": truth}
        runs.append(
            export_tracking.Run(benchmark_scores(scores, truth), {"a": 0.5, "b": 1.0}, {"a": 10.0, "b": 30.0 * misses})
        )
    # PR of a is 75 and 25, of b 100, so 87.5 and 62.5 over both; a perfect SR is 20 thresholds of 21.
    perfect = 2000 / 21
    found = export_tracking.summary(runs)
    assert found["PR"] == [75.0, round(25 / 2**0.5, 1)]
    assert found["SR"] == [round(0.75 * perfect, 1), round(0.25 * perfect / 2**0.5, 1)]
    assert found["IoU"] == 0.75
    assert found["frames per second"] == 20.0
    assert found["videos"]["a"] == {"PR": 50.0, "SR": round(perfect / 2, 1), "IoU": 0.5}
    assert export_tracking.summary(runs[:1])["PR"] == [87.5, 0.0]
    assert (
        export_tracking.tracking_table({"made": {"one": found}})[-1]
        == "| one | 75.0 ± 17.7 | 71.4 ± 16.8 | 0.75 | 20 |"
    )


def benchmark_scores(boxes: dict[str, np.ndarray], truth: np.ndarray) -> BenchmarkScores:
    from mmdistill.reference.evaluation.scoring import score_benchmark

    return score_benchmark(boxes, dict.fromkeys(boxes, (truth,)), RULES["vot"])


@pytest.mark.parametrize("modality", ["rgbt", "tir"])
def test_all_is_measured_of_any_network(modality: str, export_precision: ModuleType) -> None:
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed, which writes the files")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed, which runs the files")
    experiment = export_precision.Experiment(calibration=4, samples=1, rounds=1, videos=1, seeds=1)
    report = export_precision.measure(untrained(NETWORKS[modality]), experiment, real=videos())
    errors = {name: max(found.values()) for name, found in report["features"].items()}
    assert errors.pop("PyTorch float32") == 0
    assert errors["onnxruntime float32"] < 1e-4 < errors["PyTorch bfloat16"] < 0.1
    assert 1e-3 < errors["onnxruntime int8"] < 0.5
    assert set(report["tracking"]) == {"synthetic", "real"}
    for contestants in report["tracking"].values():
        assert contestants["PyTorch float32"]["IoU"] == 1
        assert list(contestants) == list(report["features"])
