"""How fast a GPU tracks and trains, how far that is from what it could do, and what takes the rest.

    PYTHONPATH=. python benchmarks/gpu_speed.py --out benchmarks/results/gpu_speed.json

Needs torch, einops, numpy, OpenCV and tqdm, no network, no weights, no data. It measures row by row and keeps each row
in ``--runs``; after ``--minutes`` it begins no other, and the same command goes on from there, or from ``--out`` alone.
With ``--device cpu`` it does the same on a processor, with sizes that suit one; ``--out`` keeps both devices' figures
side by side.

Tracking: ``track_batch`` over frames that are decoded and in memory, from the end of the warm-up to the end of the
videos. In it is all that a frame takes: crops on the host, upload, network, localisation, refinement, learning. The
network is random, so the tracker believes every frame, and does a trained one's work. The student is the one that is
shipped, without the paper's unused layer4 and fc, and with batch norm folded; bfloat16 is autocast.

Network: what of a frame is convolutions and matrix products, on crops that are on the device; beside it the roofline,
and ways to make it faster that are not in the tracker.

Training: a learner's whole step on a batch that is on the device: forward, backward, checks, clipping, Adam. With the
losses the teacher's features are given, but where it says that the teacher is asked.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

try:
    import torch
    from believing import believing
    from machine import machine
    from roofline import ceilings, counted, of_ceilings, seconds_of, synchronize
    from torch import Tensor
    from whereabouts import whereabouts

    from mmdistill import CMDLoss, HFRDLoss, MPSDLoss, Pair, SCFDLoss
    from mmdistill.reference.data.batches import Batch
    from mmdistill.reference.data.cache import CachedSequence
    from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
    from mmdistill.reference.device import choose_device
    from mmdistill.reference.files import write_text
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
except ModuleNotFoundError as error:
    raise SystemExit(
        f"gpu_speed: {error.name} is not here; it needs torch, einops, numpy, OpenCV (cv2), tqdm, and the checkout on "
        "PYTHONPATH"
    ) from error

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
NOT_MEASURED = "not measured"
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


Row = Callable[[], dict[str, Any]]


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

        def images() -> Pair[Tensor]:
            shape = (shots, sequences, crop, crop, 3)
            return Pair(*(torch.randn(shape, generator=generator).movedim(-1, 2) for _ in range(2)))

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
    aside = torch.cuda.Stream()
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


class Kept:
    """Rows on disk, each a file; those of another experiment or machine don't count.

    Args:
        folder: where they lie.
        about: the experiment and the machine.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._folder, self._about = folder, json.loads(json.dumps(about))

    def read(self, name: str) -> dict[str, Any] | None:
        """Return a row, or None."""
        path = self._path(name)
        if not path.exists():
            return None
        found = json.loads(path.read_text())
        row: dict[str, Any] = found["row"]
        return row if found["about"] == self._about else None

    def write(self, name: str, row: Mapping[str, Any]) -> None:
        """Keep a row."""
        write_text(self._path(name), json.dumps({"about": self._about, "name": name, "row": row}, indent=2) + "\n")

    def take(self, report: Mapping[str, Any]) -> None:
        """Keep what a report of the same experiment and machine holds, for where it alone was brought."""
        machine = {key: value for key, value in report.get("machine", {}).items() if key != "date"}
        if {"experiment": report.get("experiment"), "machine": machine} == self._about:
            for name, row in report["rows"].items():
                if "failed" not in row and self.read(name) is None:
                    self.write(name, row)

    def _path(self, name: str) -> Path:
        safe = "".join(letter if letter.isalnum() else "_" for letter in name)
        return self._folder / f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:6]}.json"


def measure(rows: Mapping[str, Row], kept: Kept, minutes: float) -> tuple[dict[str, Any], list[str]]:
    """Measure what is not there yet, as long as there is time; return what is there, and what is still to do.

    A row that fails is told, and tried again by the next command.
    """
    end = time.monotonic() + 60 * minutes
    found: dict[str, Any] = {}
    left = []
    for name, row in rows.items():
        known = kept.read(name)
        if known is None:
            if time.monotonic() > end:
                left.append(name)
                continue
            start = time.monotonic()
            try:
                known = row()
            except Exception as error:  # whatever one row meets, the others are measured
                said = str(error).partition("\n")[0][:200]
                found[name] = {"failed": f"{type(error).__name__}: {said}"}
                print(f"{name}: {found[name]['failed']}", flush=True)
                continue
            finally:
                gc.collect()
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
            kept.write(name, known)
            print(f"{name}: {time.monotonic() - start:.1f} s", flush=True)
        found[name] = known
    return found, left


def tables(report: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of each Markdown table by name: a column for each device, and what was not measured."""
    devices = {"processor": report.get("cpu"), "GPU": report.get("cuda")}
    rows = {kind: (each or {}).get("rows", {}) for kind, each in devices.items()}
    names = list(dict.fromkeys(name for found in rows.values() for name in found))

    def section(start: str, first: str, columns: Mapping[str, Callable[[dict[str, Any]], str]]) -> list[str]:
        head = [first, *(f"{kind}: {column}" for kind in rows for column in columns)]
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for name in names:
            if name.partition("/")[0] == start:
                cells = [_cell(found.get(name), show) for found in rows.values() for show in columns.values()]
                lines.append([name.partition("/")[2] or name, *cells])
        return [f"| {' | '.join(cells)} |" for cells in lines]

    roofline = {"ms": _number("milliseconds"), "of the roofline": _share("of the roofline")}
    return {
        "tracking": section(
            "tracking",
            "Network, precision, videos",
            {
                "frames a second": _number("frames a second"),
                "crops on the host": _share("share of crops on the host"),
                "a start, ms": _number("milliseconds of a start"),
            },
        ),
        "training": section(
            "training",
            "With, precision",
            {"steps a second": _number("steps a second"), "of the roofline": roofline["of the roofline"]},
        ),
        "network": section("network", "Network, precision, videos", roofline),
        "experiments": section("experiments", "Student in bfloat16, videos", roofline),
        "ceilings": section(
            "ceilings",
            "Thousand millions a second",
            {
                kind: (lambda row, key=kind: f"{row[key] / 1e9:,.0f}" if key in row else "none")
                for kind in ("float32", "tf32", "bfloat16", "bytes")
            },
        ),
        "whereabouts": section(
            "whereabouts",
            "What",
            {
                "ms": lambda row: f"{1000 * row['seconds']:,.1f}",
                "idle": lambda row: "unknown" if row["idle"] is None else f"{row['idle']:.0%}",
                "the rest": lambda row: ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items()),
            },
        ),
    }


def _cell(row: dict[str, Any] | None, show: Callable[[dict[str, Any]], str]) -> str:
    if row is None:
        return NOT_MEASURED
    return "failed" if "failed" in row else show(row)


def _number(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{row[name]:,.0f}" if row[name] >= 100 else f"{row[name]:.3g}"


def _share(name: str) -> Callable[[dict[str, Any]], str]:
    return lambda row: f"{100 * row[name]:.1f} %"


def costs(rows: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Return by precision what each loss adds to the student's own step, relative to that step."""
    found: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        base = rows.get(f"training/alone, {precision}", {}).get("milliseconds")
        there = {part: rows.get(f"training/{part}, {precision}", {}).get("milliseconds") for part in PARTS}
        if base:
            found[precision] = {part: round(took / base - 1, 3) for part, took in there.items() if took}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for each in fields(Experiment):
        many = isinstance(each.default, tuple)
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=int if many else type(each.default),
            nargs="+" if many else None,
            default=each.default,
        )
    parser.add_argument("--runs", type=Path, default=Path("runs/gpu_speed"), help="where rows are kept")
    parser.add_argument("--minutes", type=float, default=8.0, help="after these no other row is begun")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose names begin with any of these")
    parser.add_argument("--out", type=Path, help="file for the report of all devices")
    arguments = vars(parser.parse_args())
    given = {each.name: arguments[each.name] for each in fields(Experiment)}
    device = choose_device(given["device"])
    experiment = Experiment(**{**given, "device": device.type, "videos": tuple(given["videos"])})
    if experiment.threads:
        torch.set_num_threads(experiment.threads)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "none"
    where = machine() | {"GPU": name, "threads": torch.get_num_threads()}
    about = {"experiment": asdict(experiment), "machine": {key: value for key, value in where.items() if key != "date"}}
    kept = Kept(arguments["runs"], about)
    out = arguments["out"]
    report = json.loads(out.read_text()) if out is not None and out.exists() else {}
    kept.take(report.get(device.type, {}))
    bench = Bench(experiment, lambda: kept.read("ceilings") or {})
    rows = {
        key: row for key, row in bench.rows().items() if key == "ceilings" or key.startswith(tuple(arguments["only"]))
    }
    found, left = measure(rows, kept, arguments["minutes"])
    found = {key: row for key in bench.rows() if (row := found.get(key) or kept.read(key))}
    report[device.type] = {
        "machine": where,
        "experiment": asdict(experiment),
        "rows": found,
        "what losses add, in the student's own steps": costs(found),
    }
    for title, lines in tables(report).items():
        print(f"\n{title}\n\n" + "\n".join(lines))
    print(f"\nwhat losses add, in the student's own steps: {costs(found)}")
    if out is not None:
        write_text(out, json.dumps(report, indent=2) + "\n")
    if left:
        print(f"\n{len(left)} rows are left, {left[0]} first; the same command goes on from here")


if __name__ == "__main__":
    main()
