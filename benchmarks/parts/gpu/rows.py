"""A part of gpu_speed.py: its rows, and what measures each."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from parts.believing import believing
from parts.gpu.kept_rows import Row
from parts.gpu.roofline import ceilings, counted, of_ceilings, seconds_of, synchronize
from parts.gpu.whereabouts import whereabouts
from torch import Tensor

from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss
from mmdistill.reference.data.batches import Batch
from mmdistill.reference.data.cache import CachedSequence
from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.networks.folded import folded
from mmdistill.reference.networks.settings import student_settings, teacher_settings
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.tracking import batch_tracker
from mmdistill.reference.tracking.batch_tracker import BatchTracker
from mmdistill.reference.tracking.track_batch import track_batch
from mmdistill.reference.training.learner import Learner
from mmdistill.reference.training.ranks import Ranks
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.stages import AloneStage, DistilledStage

PRECISIONS = ("float32", "bfloat16")

DISTINCT = 4
"""How many videos are made; more are the same again, which costs memory once."""

PARTS: dict[str, tuple[str, ...]] = {
    "SCFD": ("scfd",),
    "SCFD sampled": ("scfd sampled",),
    "MPSD": ("mpsd",),
    "HFRD": ("hfrd",),
    "all": ("scfd", "mpsd", "hfrd"),
    "all, SCFD sampled": ("scfd sampled", "mpsd", "hfrd"),
}
"""What a student is trained with beside its own loss."""


@dataclass(frozen=True)
class Experiment:
    """What every row depends on.

    Attributes:
        device: where.
        threads: of the processor; 0 for PyTorch's own choice.
        width: of the trunks.
        crop: pixels along a search area.
        teacher_depth: of the teacher's trunks.
        videos: numbers of videos tracked together.
        frames: of each, that are timed; the filter learns in every twentieth.
        warmup: frames before.
        rounds: how often each is timed; the median counts.
        seconds: of a round, but for trackings; at least one call.
        frame_width: pixels.
        frame_height: pixels.
        sequences: in a training batch.
        shots: training and test frames of each.
        sampling: the share of positions where SCFD is sampled.
        matmul: rows and columns of the matrices of the ceiling.
        copied: MiB of the copy of the ceiling.
    """

    device: str = "auto"
    threads: int = 0
    width: int = 64
    crop: int = 288
    teacher_depth: int = 50
    videos: tuple[int, ...] = (1, 8, 32, 128)
    frames: int = 80
    warmup: int = 10
    rounds: int = 3
    seconds: float = 0.3
    frame_width: int = 640
    frame_height: int = 480
    sequences: int = 26
    shots: int = 3
    sampling: float = 0.25
    matmul: int = 8192
    copied: int = 2048

    @property
    def place(self) -> torch.device:
        """The device."""
        return torch.device(self.device)


class Bench:
    """All rows of an experiment, by name; what they share is made when it is first asked for."""

    def __init__(self, experiment: Experiment, ceiling: Callable[[], Mapping[str, float]]) -> None:
        self.experiment, self.device = experiment, experiment.place
        self.ceiling = ceiling
        self._videos: list[CachedSequence] = []

    def rows(self) -> dict[str, Row]:
        """Return what measures each row, in the order in which they are measured."""
        counts, cuda = self.experiment.videos, self.device.type == "cuda"
        rows: dict[str, Row] = {"ceilings": self._ceilings}
        for who in ("student", "teacher"):
            for precision in PRECISIONS:
                for count in counts:
                    rows[f"tracking/{who}, {precision}, {count}"] = _bound(self.track, who, precision, count)
        for part in ("alone", *PARTS, "all, teacher asked", "alone, batch from the host", "the teacher's own"):
            for precision in PRECISIONS:
                rows[f"training/{part}, {precision}"] = _bound(self.learn, part, precision)
        for who in ("student", "teacher"):
            for precision in PRECISIONS:
                for count in counts:
                    rows[f"network/{who}, {precision}, {count}"] = _bound(self.compute, who, precision, count)
        for count in counts[:3:2]:
            rows[f"whereabouts/tracking student, bfloat16, {count}"] = _bound(self.tracking_time, count)
        for part in ("alone", "all", "all, teacher asked"):
            rows[f"whereabouts/training {part}, bfloat16"] = _bound(self.training_time, part)
        for way in ("channels last", "weights in bfloat16", *(["CUDA graph", "compiled", "all three"] if cuda else [])):
            for count in counts[:3]:
                rows[f"experiments/{way}, {count}"] = _bound(self.compute, "student", "bfloat16", count, way)
        return rows

    def _ceilings(self) -> dict[str, Any]:
        return ceilings(
            self.device,
            size=self.experiment.matmul,
            copied=self.experiment.copied << 20,
            seconds=self.experiment.seconds,
        )

    def network(self, who: str) -> TrackerNetwork:
        """Return a random network."""
        experiment = self.experiment
        torch.manual_seed(0)
        settings = student_settings(experiment.width, experiment.crop)
        if who == "teacher":
            settings = teacher_settings(experiment.teacher_depth, experiment.width, experiment.crop)  # type: ignore[arg-type]
        return TrackerNetwork(settings).eval().to(self.device)

    def videos(self, count: int) -> list[CachedSequence]:
        """Return videos whose frames are all in memory."""
        experiment = self.experiment
        if not self._videos:
            size = (experiment.frame_width, experiment.frame_height)
            made = SyntheticSettings(size, length=1 + experiment.warmup + experiment.frames)
            self._videos = [CachedSequence(each) for each in synthetic_sequences(DISTINCT, seed=0, settings=made)]
            for video in self._videos:
                for index in range(len(video)):
                    video.frame(index)
        return [self._videos[number % DISTINCT] for number in range(count)]

    def autocast(self, precision: str) -> torch.autocast:
        """Return the context of a precision."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bfloat16")

    def track(self, who: str, precision: str, count: int) -> dict[str, Any]:
        """Return frames a second, the median over the rounds, and what the crops take of it."""
        network, videos = self.network(who), self.videos(count)
        rates, crops, starts = [], [], []
        for _ in range(self.experiment.rounds):
            stamps: list[float] = []
            with self.autocast(precision), stopwatch(batch_tracker, "cut_pair", "stack") as cutting:
                tracked = track_batch(
                    network,
                    videos,
                    believing(),
                    together=count,
                    after_frame=lambda stamps=stamps: stamps.append(time.perf_counter()),  # type: ignore[misc]
                )
                synchronize(self.device)
                end = time.perf_counter()
            begin = stamps[count * (1 + self.experiment.warmup) - 1]
            rates.append(count * self.experiment.frames / (end - begin))
            crops.append(sum(took for when, took in cutting if when >= begin) / (end - begin))
            starts.append(statistics.median(float(each.seconds[0]) for each in tracked))
        return {
            "frames a second": statistics.median(rates),
            "slowest and fastest": [min(rates), max(rates)],
            "share of crops on the host": statistics.median(crops),
            "milliseconds of a start": 1000 * statistics.median(starts),
        }

    def compute(self, who: str, precision: str, count: int, way: str = "") -> dict[str, Any]:
        """Return the milliseconds of the network's part of a frame, and which shares of the ceilings it reaches."""
        network = folded(self.network(who))
        crop, settings = self.experiment.crop, network.settings
        dtype = torch.float32
        if way in ("weights in bfloat16", "all three"):
            network, dtype, precision = network.to(torch.bfloat16), torch.bfloat16, "float32"
        if way in ("channels last", "all three"):
            network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Channels last, as the tracker's crops are.
        images = [torch.rand(count, crop, crop, 3, device=self.device).permute(0, 3, 1, 2).to(dtype) for _ in range(2)]
        assert network.classifier is not None
        channels = network.classifier.features(network.extract(Pair(*images)).fused[1][None]).shape[2]
        filters = torch.rand(1, count, channels, settings.filter_size, settings.filter_size).to(self.device)

        def frame(rgb: Tensor, tir: Tensor) -> tuple[Tensor, ...]:
            assert network.classifier is not None
            fused = network.extract(Pair(rgb, tir)).fused
            features = network.classifier.features(fused[1][None])
            return network.classifier.score(filters.to(features), features), *network.iou_net.features(
                fused[0], fused[1]
            )

        with torch.no_grad(), self.autocast(precision):
            operations = counted(lambda: frame(*images))
            call: Callable[[], object] = lambda: frame(*images)  # noqa: E731
            if way == "CUDA graph":
                call = recorded(call)
            elif way in ("compiled", "all three"):
                compiled = torch.compile(frame, mode="reduce-overhead")
                call = lambda: compiled(*images)  # noqa: E731
            seconds = self.seconds(call)
        shares = of_ceilings(operations, seconds, self.ceiling())
        return {"milliseconds": 1000 * seconds, "frames a second": count / seconds, **shares}

    def seconds(self, call: Callable[[], object]) -> float:
        """Return how long a call takes."""
        return seconds_of(call, self.device, rounds=self.experiment.rounds, seconds=self.experiment.seconds)

    def learn(self, part: str, precision: str) -> dict[str, Any]:
        """Return the steps a second of a training, its peak memory, and which shares of the ceilings it reaches."""
        step = self.step(part, precision)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = self.seconds(step)
        shares = of_ceilings(counted(step), seconds, self.ceiling())
        peak = torch.cuda.max_memory_allocated() / 2**30 if self.device.type == "cuda" else None
        return {"steps a second": 1 / seconds, "milliseconds": 1000 * seconds, "peak GiB": peak, **shares}

    def step(self, part: str, precision: str) -> Callable[[], None]:
        """Return a training's step, which learns at a rate of zero, so that each is like the other."""
        batch = self.batch()
        if part != "alone, batch from the host":
            batch = batch.to(self.device)
        if part in ("alone", "alone, batch from the host", "the teacher's own"):
            stage: AloneStage | DistilledStage = AloneStage(self.network("teacher" if "teacher" in part else "student"))
        else:
            parts = PARTS["all" if part == "all, teacher asked" else part]
            stage = DistilledStage(self.network("student"), self.network("teacher"))
            stage.distillation = self.losses(stage, parts).to(self.device)
            if part != "all, teacher asked":
                with self.autocast(precision):
                    batch = batch._replace(taught=stage.teach(batch))
        rates = LearningRates(**{each.name: 0.0 for each in fields(LearningRates)})
        settings = TrainingSettings(sequences=self.experiment.sequences, learning_rates=rates, precision=precision)  # type: ignore[arg-type]
        learner = Learner(stage, settings, self.device, Ranks())

        def step() -> None:
            outcome = learner.step(0, [batch])
            assert not outcome.skipped, outcome.skipped

        return step

    def losses(self, stage: DistilledStage, parts: Sequence[str]) -> CMDLoss:
        """Return the losses of some parts for a stage's networks."""
        student, teacher = stage.network.channels, stage.teacher.channels
        sampling = self.experiment.sampling if "scfd sampled" in parts else 1.0
        return CMDLoss(
            SCFDLoss(student, teacher, sampling=sampling) if any(part.startswith("scfd") for part in parts) else None,
            MPSDLoss(student[2:], teacher[2:]) if "mpsd" in parts else None,
            HFRDLoss() if "hfrd" in parts else None,
        )

    def batch(self) -> Batch:
        """Return a batch of noise, with a target in the middle of each crop."""
        generator = torch.Generator().manual_seed(0)
        shots, sequences, crop = self.experiment.shots, self.experiment.sequences, self.experiment.crop

        def images() -> Pair[Tensor]:  # of 8 bits, as the loader gives them
            shape = (shots, sequences, crop, crop, 3)
            pixels = [torch.randint(256, shape, dtype=torch.uint8, generator=generator) for _ in range(2)]
            return Pair(*(each.movedim(-1, 2) for each in pixels))

        target = torch.tensor([0.4, 0.4, 0.2, 0.2]) * crop
        boxes = target.expand(shots, sequences, 4).contiguous()
        noise = torch.randn(shots, sequences, 8, 4, generator=generator) * 0.02 * crop
        overlaps = torch.rand(shots, sequences, 8, generator=generator)
        return Batch(images(), boxes, images(), boxes, target + noise, overlaps)

    def tracking_time(self, count: int) -> dict[str, Any]:
        """Return where the time of a tracked frame goes."""
        videos = self.videos(count)
        tracker = BatchTracker(self.network("student"), believing(), slots=count)
        slots, numbers = list(range(count)), iter(range(10**9))

        def step() -> None:
            index = 1 + next(numbers) % (len(videos[0]) - 1)
            tracker.step(slots, [video.frame(index) for video in videos])

        with self.autocast("bfloat16"):
            for slot, video in enumerate(videos):
                tracker.start(slot, video.frame(0), video.boxes[0])
            return whereabouts(
                step, self.device, calls=min(20, self.experiment.frames), seconds=self.experiment.seconds
            )

    def training_time(self, part: str) -> dict[str, Any]:
        """Return where the time of a training step goes."""
        return whereabouts(self.step(part, "bfloat16"), self.device, calls=2, seconds=self.experiment.seconds)


def recorded(call: Callable[[], object]) -> Callable[[], object]:
    """Return what replays a call's kernels on the GPU, without the host."""
    aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> object:
        graph.replay()
        return kept

    return replay


def _bound(function: Callable[..., dict[str, Any]], *arguments: Any) -> Row:
    return lambda: function(*arguments)


@contextmanager
def stopwatch(owner: Any, *names: str) -> Iterator[list[tuple[float, float]]]:
    """Note when each call of some functions of a module began, and the seconds it took."""
    noted: list[tuple[float, float]] = []
    originals = {name: getattr(owner, name) for name in names}

    def timed(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = time.perf_counter()
            result = function(*arguments, **options)
            noted.append((start, time.perf_counter() - start))
            return result

        return call

    for name, function in originals.items():
        setattr(owner, name, timed(function))
    try:
        yield noted
    finally:
        for name, function in originals.items():
            setattr(owner, name, function)
