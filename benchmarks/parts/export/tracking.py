"""Tracking on features by each of several backends: time, PR, SR, and how near the boxes are."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from parts.export.backends import Backend, FeaturesBy
from parts.spread import mean_and_deviation

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
    """What the tracker made of all videos with one seed: boxes ``(T, 4)`` by video, and their scores."""

    boxes: Mapping[str, Boxes]
    scores: BenchmarkScores


def started(
    network: TrackerNetwork, contestants: Mapping[str, Backend], video: TrackingSequence
) -> dict[str, Callable[[FramePair], object]]:
    """Return for each contestant a tracker on its features, started on a video, as a function of the next frame."""

    def tracker(backend: Backend) -> Callable[[FramePair], object]:
        made = Tracker(FeaturesBy(network, backend))
        made.init(video.frame(0), video.boxes[0])
        return made.update

    return {name: tracker(backend) for name, backend in contestants.items()}


def track_by_each(
    network: TrackerNetwork, contestants: Mapping[str, Backend], videos: Sequence[TrackingSequence], seeds: int
) -> dict[str, list[Run]]:
    """Return the runs of each contestant, one per seed, of the same tracker on its features."""
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    with progress_bar(seeds * len(contestants) * sum(map(len, videos)), "tracking", "frame") as bar:
        for seed in range(seeds):
            for name, backend in contestants.items():
                tracked = track_batch(FeaturesBy(network, backend), videos, seed=seed, after_frame=bar.update)
                boxes = {video.name: track.boxes for video, track in zip(videos, tracked, strict=True)}
                runs[name].append(Run(boxes, score_sequences(boxes, videos, PROTOCOLS["vot"])))
    return runs


def summaries(runs: Mapping[str, Sequence[Run]]) -> dict[str, dict[str, Any]]:
    """Return each contestant's ``summary``, compared with the first one's run of the same seed.

    The first is compared with itself at the next seed: how far apart boxes are that are equally good.
    """
    first, *_ = runs
    same, next_seed = runs[first], [*runs[first][1:], runs[first][0]]
    return {name: summary(found, next_seed if name == first else same) for name, found in runs.items()}


def summary(runs: Sequence[Run], others: Sequence[Run]) -> dict[str, Any]:
    """Return PR and SR, each as mean and deviation over runs, the mean IoU with other runs, and each video's means."""
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
        "IoU": _mean([overlap for found in overlaps.values() for overlap in found], digits=3),
        "videos": {
            video: {
                **{name: _mean([run.scores.sequences[video].rates()[name] for run in runs]) for name in FIGURES},
                "IoU": _mean(found, digits=3),
            }
            for video, found in overlaps.items()
        },
    }


def tracking_table(report: Mapping[str, Any]) -> list[str]:
    """Return the lines of a Markdown table of time and, by kind of video, of summaries."""
    kinds = report["tracking"]
    head = ["Tracked on features by", "ms a frame", "ratio", *(f"{kind}: PR | SR | IoU" for kind in kinds)]
    lines = [f"| {' | '.join(head)} |", "| --- | ---: | ---: |" + " ---: | ---: | ---: |" * len(kinds)]
    for name, cost in report["time of tracking"].items():
        cells = [name, f"{cost['milliseconds']:.0f}", f"{cost['ratio']:.2f}"]
        for found in (contestants[name] for contestants in kinds.values()):
            cells += [f"{found[figure][0]:.1f} ± {found[figure][1]:.1f}" for figure in FIGURES]
            cells.append(f"{found['IoU']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _mean(values: Sequence[float], digits: int = 1) -> float:
    return round(statistics.mean(values), digits)
