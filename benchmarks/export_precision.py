"""Measures time, feature errors and tracking of float32, bfloat16 and int8 on a CPU, by PyTorch and onnxruntime.

For networks of any modality with DiMP's classifier. Time: features of a frame, and a whole tracked frame, one thread,
all backends in turns; medians, and medians of each round's ratio to PyTorch float32. Features: relative errors on
search areas that were not used for calibration, and score maps of a filter learned from each backend's own features.
Tracking: the whole tracker on each backend's features, on synthetic or composed videos and on the real ones of --root,
with several seeds. Without --weights the network is untrained. Takes 20 minutes per network on one core.

Example:
    python benchmarks/export_precision.py --weights network.safetensors --data PAIRS --num-test-pairs 30 \
        --root SEQUENCES --out benchmarks/results/export_precision.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from parts.export.backends import BASE, Backend, backends
from parts.export.tracking import start_trackers, summaries, track_with_each, tracking_table
from parts.report_fields import machine
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.crops import to_tensor
from mmdistill.reference.models.config import NetworkSettings, student_settings
from mmdistill.reference.models.dimp_classifier import TargetClassifier
from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.models.weights import load_network
from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.reference.training.sampler import Crops, Sample, Sampler
from mmdistill.toolkit.boxes import centers
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.sequence import TrackingSequence

T = TypeVar("T")

OUTPUTS = ("level3", "level4", "classification")


@dataclass(frozen=True)
class Experiment:
    """Settings.

    Attributes:
        data: ``"synthetic"``, or a folder of aligned pairs to compose videos from.
        num_test_pairs: pairs for everything but calibration, the last by name; 0 to use all pairs for both.
        calibration: number of calibration crops of int8.
        samples: number of samples for the feature errors.
        rounds: number of timed crops.
        videos: number of synthetic or composed videos to track.
        seeds: number of seeds per video.
    """

    data: str = "synthetic"
    num_test_pairs: int = 0
    calibration: int = 64
    samples: int = 30
    rounds: int = 30
    videos: int = 10
    seeds: int = 3

    @property
    def kind(self) -> str:
        """Name of the videos in the report."""
        return "synthetic" if self.data == "synthetic" else "composed"

    def calibration_videos(self, count: int, seed: int) -> Sequence[TrackingSequence]:
        """Return videos for calibration."""
        return self._make_videos(slice(None, -self.num_test_pairs or None), count, seed)

    def test_videos(self, count: int, seed: int) -> Sequence[TrackingSequence]:
        """Return videos for measurement."""
        return self._make_videos(slice(-self.num_test_pairs or None, None), count, seed)

    def _make_videos(self, pairs: slice, count: int, seed: int) -> Sequence[TrackingSequence]:
        if self.data == "synthetic":
            return synthetic_sequences(count, seed=seed)
        return composed_sequences(self.data, pairs, count=count, seed=seed)


def samples(videos: Sequence[TrackingSequence], settings: NetworkSettings, seed: int) -> list[Sample]:
    """Return one sample per video."""
    sampler = Sampler(videos, settings.crop_size, settings.search_area, seed=seed)
    return [sampler.sample(number) for number in range(len(videos))]


def single_crops(sampled: Iterable[Sample]) -> list[Pair[Tensor]]:
    """Return the test frames as image pairs with batch size 1."""
    batches = (batch(sample.test) for sample in sampled)
    return [Pair(rgb[None], tir[None]) for images in batches for rgb, tir in zip(*images, strict=True)]


def batch(crops: Crops) -> Pair[Tensor]:
    """Return crops as normalized images."""
    return Pair(*(to_tensor(images).contiguous() for images in crops.images))


def time_in_turns(functions: Mapping[str, Callable[[T], object]], inputs: Iterable[T]) -> dict[str, dict[str, float]]:
    """Return milliseconds, and ratios to the base, with one input per round; the first two rounds are a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for value in inputs:
        for name, function in functions.items():
            start = time.perf_counter()
            function(value)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "milliseconds": round(1000 * statistics.median(times[2:]), 1),
            "ratio": round(statistics.median(t / b for t, b in zip(times[2:], seconds[BASE][2:], strict=True)), 3),
        }
        for name, times in seconds.items()
    }


def score_maps(classifier: TargetClassifier, backend: Backend, sample: Sample) -> Tensor:
    """Return the test frames' scores ``(M, H', W')`` with a filter learned on the reference frames."""
    boxes = torch.from_numpy(sample.train.boxes).float()[:, None]
    filters = classifier.learn(backend(batch(sample.train))[-1][:, None], boxes, iterations=10)[-1]
    return classifier.score(filters[None], backend(batch(sample.test))[-1][:, None])[0, :, 0]


def peaks(scores: Tensor) -> np.ndarray:
    """Return columns and rows of the maps' maxima ``(M, 2)``."""
    rows, columns = np.unravel_index(scores.flatten(1).argmax(dim=1).numpy(), scores.shape[1:])
    return np.stack([columns, rows], axis=-1)


@torch.inference_mode()
def feature_errors(by_name: dict[str, Backend], samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Return the norm of the difference relative to the norm of the features, median over the samples."""
    errors: dict[str, list[list[float]]] = {name: [] for name in by_name}
    for sample in samples:
        images = batch(sample.test)
        expected = by_name[BASE](images)
        for name, backend in by_name.items():
            pairs = zip(expected, backend(images), strict=True)
            errors[name].append([float((mine - theirs).norm() / mine.norm()) for mine, theirs in pairs])
    return {
        name: {
            output: float(f"{value:.2g}") for output, value in zip(OUTPUTS, np.median(by_sample, axis=0), strict=True)
        }
        for name, by_sample in errors.items()
    }


@torch.inference_mode()
def score_agreement(
    network: TrackerNetwork, by_name: dict[str, Backend], samples: Iterable[Sample]
) -> dict[str, dict[str, float]]:
    """Return the score maps' correlation with the base, the share of equal peaks, and of peaks on the target."""
    classifier = network.classifier
    assert classifier is not None
    results: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in by_name}
    for sample in samples:
        base = score_maps(classifier, by_name[BASE], sample)
        true = centers(sample.test.boxes) / classifier.STRIDE
        for name, backend in by_name.items():
            scores = score_maps(classifier, backend, sample)
            distance = np.linalg.norm(peaks(scores) - true, axis=1)
            same = np.abs(peaks(scores) - peaks(base)).max(axis=1) <= 1
            for mine, theirs, near, far in zip(base, scores, same, distance, strict=True):
                correlation = torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1]
                results[name].append((float(correlation), bool(near), float(far)))
    return {
        name: {
            "correlation": round(float(np.median([each[0] for each in maps])), 4),
            "same peak": round(float(np.mean([each[1] for each in maps])), 3),
            "on target": round(float(np.mean([each[2] <= 1.5 for each in maps])), 3),
        }
        for name, maps in results.items()
    }


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of time and features."""
    lines = [
        "| Backend | ms per frame | Ratio | Error level 3 | Error level 4 | Error classification | Score correlation "
        "| Same peak |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, cost in report["time"].items():
        errors = " | ".join(f"{value:.1e}" for value in report["features"][name].values())
        scores = report["scores"][name]
        lines.append(
            f"| {name} | {cost['milliseconds']:.0f} | {cost['ratio']:.2f} | {errors} "
            f"| {scores['correlation']:.3f} | {100 * scores['same peak']:.0f} % |"
        )
    return lines


def measure(
    network: TrackerNetwork, experiment: Experiment, real: Sequence[TrackingSequence] | None = None
) -> dict[str, Any]:
    """Return all measurements; tracks the real videos too, if given."""

    def crops(count: int, seed: int) -> list[Pair[Tensor]]:
        videos = experiment.calibration_videos(-(-count // 3), seed)
        return single_crops(samples(videos, network.settings, seed))[:count]

    by_name = backends(network, crops(experiment.calibration, seed=1))
    measured = samples(experiment.test_videos(experiment.samples, seed=2), network.settings, seed=2)
    videos = {experiment.kind: experiment.test_videos(experiment.videos, seed=4)} | ({"real": real} if real else {})
    (timed,) = experiment.test_videos(1, seed=4)
    return {
        "machine": machine() | {"onnxruntime": version("onnxruntime")},
        "network": asdict(network.settings),
        "experiment": asdict(experiment) | {"data": experiment.kind},
        "time": time_in_turns(by_name, crops(experiment.rounds + 2, seed=3)),
        "features": feature_errors(by_name, measured),
        "scores": score_agreement(network, by_name, measured),
        "time of tracking": time_in_turns(
            start_trackers(network, by_name, timed), (timed.frame(number) for number in range(1, len(timed)))
        ),
        "tracking": {
            kind: summaries(track_with_each(network, by_name, kind_videos, experiment.seeds))
            for kind, kind_videos in videos.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="network.safetensors with DiMP's classifier; default untrained")
    parser.add_argument(
        "--data", default="synthetic", help="synthetic, or a folder of pairs to compose video from; default synthetic"
    )
    parser.add_argument(
        "--num-test-pairs", type=int, default=0, help="pairs to measure on and not to calibrate on, the last by name"
    )
    parser.add_argument("--videos", type=int, default=10, help="synthetic or composed videos to track; default 10")
    parser.add_argument("--root", type=Path, help="folder of real sequences to track too")
    parser.add_argument(
        "--modality", choices=("rgb", "tir"), default="rgb", help="modality of the sequences in --root; default rgb"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds per video; default 3")
    parser.add_argument("--out", type=Path, help="JSON report")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = load_network(arguments.weights) if arguments.weights else TrackerNetwork(student_settings()).eval()
    if network.classifier is None:
        parser.error(f"{arguments.weights}: expected a network with DiMP's classifier, got one with ATOM's classifier")
    experiment = Experiment(
        data=arguments.data, num_test_pairs=arguments.num_test_pairs, videos=arguments.videos, seeds=arguments.seeds
    )
    real = read_sequences(arguments.root, modality=arguments.modality) if arguments.root else None
    report = {"weights": "trained" if arguments.weights else "untrained"} | measure(network, experiment, real)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join([*table(report), "", *tracking_table(report)]))


if __name__ == "__main__":
    main()
