"""Tracking on the features of several backends: time, PR, SR, and overlap of the boxes."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from parts.export.backends import Backend, BackendNetwork
from parts.seed_statistics import mean_and_deviation

from mmdistill.reference.models.tracker_network import TrackerNetwork
from mmdistill.reference.tracking.tracker import Tracker, track_batch
from mmdistill.toolkit.boxes import intersection_over_union
from mmdistill.toolkit.evaluation.metrics import score_sequences
from mmdistill.toolkit.evaluation.protocols import PROTOCOLS
from mmdistill.toolkit.evaluation.scores import BenchmarkScores
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.sequence import Boxes, FramePair, TrackingSequence

FIGURES = ("PR", "SR")


class Run(NamedTuple):
    """The results of one seed: boxes ``(T, 4)`` by video, and their scores."""

    boxes: Mapping[str, Boxes]
    scores: BenchmarkScores


def start_trackers(
    network: TrackerNetwork, backends: Mapping[str, Backend], video: TrackingSequence
) -> dict[str, Callable[[FramePair], object]]:
    """Return for each backend the update function of a tracker initialized on the video."""

    def tracker(backend: Backend) -> Callable[[FramePair], object]:
        initialized = Tracker(BackendNetwork(network, backend))
        initialized.init(video.frame(0), video.boxes[0])
        return initialized.update

    return {name: tracker(backend) for name, backend in backends.items()}


def track_with_each(
    network: TrackerNetwork, backends: Mapping[str, Backend], videos: Sequence[TrackingSequence], seeds: int
) -> dict[str, list[Run]]:
    """Return each backend's runs, one per seed."""
    runs: dict[str, list[Run]] = {name: [] for name in backends}
    with progress_bar(seeds * len(backends) * sum(map(len, videos)), "tracking", "frame") as bar:
        for seed in range(seeds):
            for name, backend in backends.items():
                tracked = track_batch(BackendNetwork(network, backend), videos, seed=seed, after_frame=bar.update)
                boxes = {video.name: track.boxes for video, track in zip(videos, tracked, strict=True)}
                runs[name].append(Run(boxes, score_sequences(boxes, videos, PROTOCOLS["vot"])))
    return runs


def summaries(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """Return each backend's ``summary``, compared with the first backend's run of the same seed.

    The first is compared with its own run of the next seed, which shows the spread over seeds.
    """
    first, *_ = runs
    same, next_seed = runs[first], [*runs[first][1:], runs[first][0]]
    return {name: summary(by_seed, next_seed if name == first else same) for name, by_seed in runs.items()}


def summary(runs: Sequence[Run], others: Sequence[Run]) -> dict[str, Any]:
    """Return mean and deviation of PR and SR over runs, the mean IoU with other runs, and each video's means."""
    overall = [run.scores.overall.rates() for run in runs]
    overlaps = {
        video: [
            float(intersection_over_union(run.boxes[video], other.boxes[video]).mean())
            for run, other in zip(runs, others, strict=True)
        ]
        for video in runs[0].boxes
    }
    return {
        **{name: mean_and_deviation([figures[name] for figures in overall]) for name in FIGURES},
        "IoU": _mean([overlap for by_seed in overlaps.values() for overlap in by_seed], digits=3),
        "videos": {
            video: {
                **{name: _mean([run.scores.sequences[video].rates()[name] for run in runs]) for name in FIGURES},
                "IoU": _mean(by_seed, digits=3),
            }
            for video, by_seed in overlaps.items()
        },
    }


def tracking_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of time, and of the summaries by kind of video."""
    kinds = report["tracking"]
    head = ["Backend of the tracker", "ms per frame", "Ratio", *(f"{kind}: PR | SR | IoU" for kind in kinds)]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: |" + " ---: | ---: | ---: |" * len(kinds)]
    for name, cost in report["time of tracking"].items():
        cells = [name, f"{cost['milliseconds']:.0f}", f"{cost['ratio']:.2f}"]
        for figures in (by_backend[name] for by_backend in kinds.values()):
            cells += [f"{figures[figure][0]:.1f} ± {figures[figure][1]:.1f}" for figure in FIGURES]
            cells.append(f"{figures['IoU']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(values: Sequence[float], digits: int = 1) -> float:
    return round(statistics.mean(values), digits)
