"""What float32, int8 and bfloat16 cost and lose on a CPU: the student's features by PyTorch and by onnxruntime.

    python benchmarks/export_precision.py --weights network.safetensors --data PAIRS \
        --out benchmarks/results/export_precision.json

Time: a pair of crops from images to fused and classification features, one thread, all contestants in turns; medians,
and medians of each round's ratio to PyTorch in float32. Accuracy, on search areas that int8 was not calibrated on: the
features' relative error, and score maps by a filter that each contestant learns from its own features, against those
of PyTorch in float32 and against the target's true place. Without ``--weights`` the network is untrained.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from machine import machine
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.data.boxes import centres
from mmdistill.reference.data.sampling import Crops, Sample, Sampler
from mmdistill.reference.data.tensors import to_tensor
from mmdistill.reference.data.training_source import training_sequences
from mmdistill.reference.export.files import Precision, write_files
from mmdistill.reference.export.graphs import features_graph
from mmdistill.reference.export.session import OnnxGraph
from mmdistill.reference.networks.classifier import TargetClassifier
from mmdistill.reference.networks.folded import folded
from mmdistill.reference.networks.settings import student_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import load_network

Backend = Callable[[Pair[Tensor]], Sequence[Tensor]]
"""From normalised images to fused levels 3 and 4 and classification features."""

BASE = "PyTorch float32"
OUTPUTS = ("level3", "level4", "classification")


def backends(network: TrackerNetwork, crops: Sequence[Pair[Tensor]]) -> dict[str, Backend]:
    """Return each contestant by name; int8 is calibrated on the crops."""
    graph = features_graph(folded(network))

    def float32(images: Pair[Tensor]) -> Sequence[Tensor]:
        return graph.run(*images)

    def bfloat16(images: Pair[Tensor]) -> Sequence[Tensor]:
        with torch.autocast("cpu", torch.bfloat16):
            return [features.float() for features in graph.run(*images)]

    def exported(precision: Precision) -> Backend:
        with tempfile.TemporaryDirectory() as folder:
            written = write_files(network, Path(folder) / "model.onnx", precision, crops)
            session = OnnxGraph(written[0].path, threads=1)
        return lambda images: session(*images)

    return {
        BASE: float32,
        "PyTorch bfloat16": bfloat16,
        "onnxruntime float32": exported("float32"),
        "onnxruntime int8": exported("int8"),
    }


def batch(crops: Crops) -> Pair[Tensor]:
    """Return crops as normalised images."""
    return Pair(*(to_tensor(images).contiguous() for images in crops.images))


def time_backends(contestants: dict[str, Backend], crops: Sequence[Pair[Tensor]]) -> dict[str, dict[str, float]]:
    """Return milliseconds and ratios, a crop a round; the first two rounds are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for crop in crops:
        for name, backend in contestants.items():
            start = time.perf_counter()
            backend(crop)
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
        true = centres(sample.test.boxes) / classifier.STRIDE
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


def table(report: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = [
        "| Features by | ms a pair | ratio | error level 3 | level 4 | classification | scores agree | peak kept |",
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="a student's network.safetensors")
    parser.add_argument("--data", default="synthetic", help="as for training: 'synthetic', pairs, or sequences")
    parser.add_argument("--calibration", type=int, default=64, help="crops that int8 learns its ranges from")
    parser.add_argument("--samples", type=int, default=30, help="sequences that accuracy is measured on")
    parser.add_argument("--rounds", type=int, default=30, help="crops that are timed")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = load_network(arguments.weights) if arguments.weights else TrackerNetwork(student_settings()).eval()
    settings = network.settings

    def samples(count: int, seed: int) -> list[Sample]:
        sequences = training_sequences(arguments.data, count=count, seed=seed)
        sampler = Sampler(sequences, settings.crop_size, settings.search_area, seed=seed)
        return [sampler.sample(number) for number in range(count)]

    def single_crops(count: int, seed: int) -> list[Pair[Tensor]]:
        batches = (batch(sample.test) for sample in samples(-(-count // 3), seed))
        return [Pair(rgb[None], tir[None]) for images in batches for rgb, tir in zip(*images, strict=True)][:count]

    contestants = backends(network, single_crops(arguments.calibration, seed=1))
    measured = samples(arguments.samples, seed=2)
    report = {
        "machine": machine() | {"onnxruntime": version("onnxruntime")},
        "weights": "trained" if arguments.weights else "untrained",
        "data": "synthetic" if arguments.data == "synthetic" else "composed from pairs, or sequences",
        "time": time_backends(contestants, single_crops(arguments.rounds + 2, seed=3)),
        "features": feature_errors(contestants, measured),
        "scores": score_agreement(network, contestants, measured),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")
    print("\n".join(table(report)))


if __name__ == "__main__":
    main()
