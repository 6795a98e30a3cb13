"""What float32, int8 and bfloat16 cost and lose on a CPU: features by PyTorch and by onnxruntime, and tracking on them.

    python benchmarks/export_precision.py --weights network.safetensors --data PAIRS --hold-out 30 \
        --root SEQUENCES --out benchmarks/results/export_precision.json

For any network with DiMP's classifier, of both modalities or of one. Time: a frame's crops from images to fused and
classification features, and a whole frame's tracking, one thread, all contestants in turns; medians, and medians of
each round's ratio to PyTorch in float32. Features, on search areas that int8 was not calibrated on: their relative
error, and score maps by a filter that each contestant learns from its own features, against those of PyTorch in float32
and against the target's true place. Tracking: the whole tracker on each contestant's features, over made videos and
over the real ones of ``--root``, with several seeds, which decide the first frame's augmentation and the boxes that are
refined. Without ``--weights`` the network is untrained.
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
from parts.export.tracking import started, summaries, track_by_each, tracking_table
from parts.machine import machine
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
    """What is measured on.

    Attributes:
        data: ``"synthetic"``, or a folder of aligned pairs from which videos are composed.
        hold_out: how many pairs, the last by name, int8 is not calibrated on but all else is measured on; 0 for all.
        calibration: crops that int8 learns its ranges from.
        samples: sequences that features are measured on.
        rounds: crops that are timed.
        videos: how many are made and tracked.
        seeds: how often each video is tracked.
    """

    data: str = "synthetic"
    hold_out: int = 0
    calibration: int = 64
    samples: int = 30
    rounds: int = 30
    videos: int = 10
    seeds: int = 3

    @property
    def kind(self) -> str:
        """What its videos are called."""
        return "synthetic" if self.data == "synthetic" else "composed"

    def known(self, count: int, seed: int) -> Sequence[TrackingSequence]:
        """Return videos that int8 may be calibrated on."""
        return self._made(slice(None, -self.hold_out or None), count, seed)

    def unseen(self, count: int, seed: int) -> Sequence[TrackingSequence]:
        """Return videos to measure on."""
        return self._made(slice(-self.hold_out or None, None), count, seed)

    def _made(self, pairs: slice, count: int, seed: int) -> Sequence[TrackingSequence]:
        if self.data == "synthetic":
            return synthetic_sequences(count, seed=seed)
        return composed_sequences(self.data, pairs, count=count, seed=seed)


def samples(videos: Sequence[TrackingSequence], settings: NetworkSettings, seed: int) -> list[Sample]:
    """Return as many samples as there are videos."""
    sampler = Sampler(videos, settings.crop_size, settings.search_area, seed=seed)
    return [sampler.sample(number) for number in range(len(videos))]


def single_crops(found: Iterable[Sample]) -> list[Pair[Tensor]]:
    """Return the test frames as images, one pair at a time."""
    batches = (batch(sample.test) for sample in found)
    return [Pair(rgb[None], tir[None]) for images in batches for rgb, tir in zip(*images, strict=True)]


def batch(crops: Crops) -> Pair[Tensor]:
    """Return crops as normalized images."""
    return Pair(*(to_tensor(images).contiguous() for images in crops.images))


def time_in_turns(contestants: Mapping[str, Callable[[T], object]], inputs: Iterable[T]) -> dict[str, dict[str, float]]:
    """Return milliseconds and ratios to the base's, an input a round; the first two rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for given in inputs:
        for name, contestant in contestants.items():
            start = time.perf_counter()
            contestant(given)
            seconds[name].append(time.perf_counter() - start)
    return {
        name: {
            "milliseconds": round(1000 * statistics.median(times[2:]), 1),
            "ratio": round(statistics.median(t / b for t, b in zip(times[2:], seconds[BASE][2:], strict=True)), 3),
        }
        for name, times in seconds.items()
    }


def score_maps(classifier: TargetClassifier, backend: Backend, sample: Sample) -> Tensor:
    """Return the test frames' scores ``(M, H', W')`` by a filter learned on the reference frames."""
    boxes = torch.from_numpy(sample.train.boxes).float()[:, None]
    filters = classifier.learn(backend(batch(sample.train))[-1][:, None], boxes, iterations=10)[-1]
    return classifier.score(filters[None], backend(batch(sample.test))[-1][:, None])[0, :, 0]


def peaks(scores: Tensor) -> np.ndarray:
    """Return the columns and rows of the maps' maxima, ``(M, 2)``."""
    rows, columns = np.unravel_index(scores.flatten(1).argmax(dim=1).numpy(), scores.shape[1:])
    return np.stack([columns, rows], axis=-1)


@torch.inference_mode()
def feature_errors(contestants: dict[str, Backend], samples: Iterable[Sample]) -> dict[str, dict[str, float]]:
    """Return the norm of the difference relative to the norm of the features, medians over the samples."""
    errors: dict[str, list[list[float]]] = {name: [] for name in contestants}
    for sample in samples:
        images = batch(sample.test)
        expected = contestants[BASE](images)
        for name, backend in contestants.items():
            pairs = zip(expected, backend(images), strict=True)
            errors[name].append([float((mine - theirs).norm() / mine.norm()) for mine, theirs in pairs])
    return {
        name: {output: float(f"{value:.2g}") for output, value in zip(OUTPUTS, np.median(found, axis=0), strict=True)}
        for name, found in errors.items()
    }


@torch.inference_mode()
def score_agreement(
    network: TrackerNetwork, contestants: dict[str, Backend], samples: Iterable[Sample]
) -> dict[str, dict[str, float]]:
    """Return how score maps agree with the base's, and how far their maxima are from the target, cells."""
    classifier = network.classifier
    assert classifier is not None
    found: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in contestants}
    for sample in samples:
        base = score_maps(classifier, contestants[BASE], sample)
        true = centers(sample.test.boxes) / classifier.STRIDE
        for name, backend in contestants.items():
            scores = score_maps(classifier, backend, sample)
            distance = np.linalg.norm(peaks(scores) - true, axis=1)
            same = np.abs(peaks(scores) - peaks(base)).max(axis=1) <= 1
            for mine, theirs, near, far in zip(base, scores, same, distance, strict=True):
                correlation = torch.corrcoef(torch.stack([mine.flatten(), theirs.flatten()]))[0, 1]
                found[name].append((float(correlation), bool(near), float(far)))
    return {
        name: {
            "correlation": round(float(np.median([each[0] for each in maps])), 4),
            "same place": round(float(np.mean([each[1] for each in maps])), 3),
            "on target": round(float(np.mean([each[2] <= 1.5 for each in maps])), 3),
        }
        for name, maps in found.items()
    }


def table(report: dict[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of time and features."""
    lines = [
        "| Features by | ms a frame | ratio | error level 3 | level 4 | classification | scores agree | peak kept |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, cost in report["time"].items():
        errors = " | ".join(f"{value:.1e}" for value in report["features"][name].values())
        scores = report["scores"][name]
        lines.append(
            f"| {name} | {cost['milliseconds']:.0f} | {cost['ratio']:.2f} | {errors} "
            f"| {scores['correlation']:.3f} | {100 * scores['same place']:.0f} % |"
        )
    return lines


def measure(
    network: TrackerNetwork, experiment: Experiment, real: Sequence[TrackingSequence] | None = None
) -> dict[str, Any]:
    """Return all that is measured; real videos, where there are any, are tracked as well."""

    def crops(count: int, seed: int) -> list[Pair[Tensor]]:
        three_each = experiment.known(-(-count // 3), seed)
        return single_crops(samples(three_each, network.settings, seed))[:count]

    contestants = backends(network, crops(experiment.calibration, seed=1))
    measured = samples(experiment.unseen(experiment.samples, seed=2), network.settings, seed=2)
    videos = {experiment.kind: experiment.unseen(experiment.videos, seed=4)} | ({"real": real} if real else {})
    (timed,) = experiment.unseen(1, seed=4)
    return {
        "machine": machine() | {"onnxruntime": version("onnxruntime")},
        "network": asdict(network.settings),
        "experiment": asdict(experiment) | {"data": experiment.kind},
        "time": time_in_turns(contestants, crops(experiment.rounds + 2, seed=3)),
        "features": feature_errors(contestants, measured),
        "scores": score_agreement(network, contestants, measured),
        "time of tracking": time_in_turns(
            started(network, contestants, timed), (timed.frame(number) for number in range(1, len(timed)))
        ),
        "tracking": {
            kind: summaries(track_by_each(network, contestants, chosen, experiment.seeds))
            for kind, chosen in videos.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="any network.safetensors with DiMP's classifier")
    parser.add_argument("--data", default="synthetic", help="'synthetic', or a folder of pairs to compose video from")
    parser.add_argument("--hold-out", type=int, default=0, help="last pairs, to measure and not to calibrate on")
    parser.add_argument("--videos", type=int, default=10, help="made videos that are tracked")
    parser.add_argument("--root", type=Path, help="folder of real sequences that are tracked as well")
    parser.add_argument("--modality", choices=("rgb", "tir"), default="rgb", help="of --root, where it has one")
    parser.add_argument("--seeds", type=int, default=3, help="how often each video is tracked")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = load_network(arguments.weights) if arguments.weights else TrackerNetwork(student_settings()).eval()
    if network.classifier is None:
        parser.error(f"{arguments.weights}: expected a network with DiMP's classifier, got one that learns it online")
    experiment = Experiment(
        data=arguments.data, hold_out=arguments.hold_out, videos=arguments.videos, seeds=arguments.seeds
    )
    real = read_sequences(arguments.root, modality=arguments.modality) if arguments.root else None
    report = {"weights": "trained" if arguments.weights else "untrained"} | measure(network, experiment, real)
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join([*table(report), "", *tracking_table(report)]))


if __name__ == "__main__":
    main()
