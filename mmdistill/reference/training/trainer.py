"""The training loop of all stages: log, checkpoints, resuming, and the time spent waiting for data."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from mmdistill.reference.models.weights import save_network
from mmdistill.reference.training.checkpoint import Progress, StepLog, load_checkpoint, save_checkpoint
from mmdistill.reference.training.data_loader import Batch, BatchLoader, BatchShard, LoadedBatch
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Samples
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage
from mmdistill.reference.training.train_step import StepResult, TrainStep
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.interruption import Interruption, collect_signals
from mmdistill.toolkit.io import remove_leftovers
from mmdistill.toolkit.progress import ProgressBar, print_to_stderr, progress_bar

logger = logging.getLogger(__name__)

DATA_WAIT_LIMIT = 0.1
"""From this share of time spent waiting for data, more workers are recommended."""

AVERAGED_STEPS = 20
"""Number of latest steps over which the displayed terms are averaged."""

MAX_LOGGED_REPLACEMENTS = 5
"""Number of replaced samples that are logged one by one."""

MAX_FAILED_CHECKPOINTS = 3
"""A run stops after this many checkpoints in a row that can't be written."""


class DataWait:
    """Measures the time spent waiting for data, from the end of the first wait on: in that one workers start.

    Args:
        clock: returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start: float | None = None
        self._waited = 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time of the block as waiting."""
        start = self._clock()
        yield
        end = self._clock()
        if self._start is None:
            self._start = end
        else:
            self._waited += end - start

    @property
    def share(self) -> float:
        """Share of the time spent waiting, 0 to 1; 0 before the first wait ends."""
        passed = 0.0 if self._start is None else self._clock() - self._start
        return self._waited / passed if passed > 0 else 0.0

    def summary(self, workers: int) -> str:
        """Return the share of time as text, with advice for a large one.

        Args:
            workers: number of processes that prepare batches.
        """
        share = self.share
        text = f"waited for data {share:.0%} of the time".replace("%", " %")
        if share < DATA_WAIT_LIMIT:
            return text
        advice = "increase training.workers" if workers else "set training.workers to prepare data in other processes"
        return f"{text}; {advice}, if there are idle cores"


def train(
    stage: Stage,
    sampler: Samples,
    settings: TrainingSettings,
    folder: str | Path,
    *,
    data: str = "",
    device: torch.device | str = "cpu",
    title: str = "training",
    progress: bool = True,
) -> Progress:
    """Train a stage's network; a run that was stopped resumes from its checkpoint.

    The folder gets ``checkpoint.safetensors`` (the run's state) and ``log.jsonl``: each step's terms, the entropy of
    MPSD blocks' path weights and, if the settings ask for them, the terms' gradients at the trunk. At the end it gets
    ``network.safetensors`` (the network and its settings, for trackers).

    In a PyTorch process group all processes must call this with the same arguments. Each computes a part of every
    batch, and the first writes the files. docs/training.md says how problems are handled.

    Args:
        stage: the network to train, and its loss.
        sampler: the source of samples.
        settings: of the run.
        folder: folder of the run's files, which all processes must see.
        data: description of the data; a run resumes only with the same description.
        device: the device to train on.
        title: title of the progress bar.
        progress: show a progress bar.

    Returns:
        The finished run's progress.

    Raises:
        DataError: another process trains in the folder, it holds a run with other settings
            (``TrainingSettings.identity``) or a damaged checkpoint, the batch can't be divided, or there are more
            problems than the settings allow.
        OSError: the last checkpoint, or the network, can't be written.
        Interruption: a signal (Ctrl-C, SIGTERM, SIGHUP) stopped the run; the checkpoint is written.
    """
    device, distributed = torch.device(device), DistributedContext.current()
    shard = BatchShard.of(settings, distributed)
    identity = json.dumps({"training": settings.identity(), "data": data, **stage.settings()})
    train_step = TrainStep(stage, settings, device, distributed)
    loader = BatchLoader(sampler, shard, workers=settings.workers)
    run = _Run(train_step, loader, Path(folder), identity, title)
    with distributed.hold(run.folder):
        run.open()
        _take_steps(run, quiet=not (progress and distributed.first))
        run.close()
    return run.state


def _take_steps(run: _Run, *, quiet: bool) -> None:
    """Take the steps that are left.

    Raises:
        Interruption: a signal stopped the run; the checkpoint is written.
    """
    distributed, device, steps = run.distributed, run.train_step.device, run.settings.steps
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        collect_signals() as interrupted,
        closing(StepLog(run.folder / "log.jsonl", run.state.step)) if distributed.first else nullcontext() as log,
        progress_bar(steps, run.title, "step", initial=run.state.step, quiet=quiet) as bar,
        closing(run.batches()) as all_batches,  # an interruption ends the loader's workers before the signals' handlers
    ):
        run.log, run.bar = log, bar
        for number, batches in all_batches:
            run.record(number, run.train_step.run(number, batches))
            terms = {name: f"{value:.3g}" for name, value in run.state.last.items()}
            bar.set_postfix({**terms, "data_wait": f"{run.data_wait.share:.0%}"})
            bar.update()
            signal = distributed.signal(interrupted)
            run.save(last=bool(signal) or run.state.step == steps)
            if signal and run.state.step < steps:
                bar.close()
                if distributed.first:
                    print_to_stderr(f"{run.title}: stopped after step {run.state.step}; the same command resumes it")
                run.report()
                raise Interruption(signal)


class _Run:
    """A run's state and files, and the handling of its problems."""

    def __init__(self, train_step: TrainStep, loader: BatchLoader, folder: Path, identity: str, title: str) -> None:
        self.train_step, self.loader, self.folder, self.title = train_step, loader, folder, title
        self.settings, self.distributed, self._identity = train_step.settings, train_step.distributed, identity
        self.state = Progress(0, {}, [])
        self.log: StepLog | None = None
        self.data_wait, self.bar = DataWait(), ProgressBar()
        self._checkpoint = folder / "checkpoint.safetensors"
        self._replaced_in_step = self._logged_replacements = 0
        self._skipped_in_a_row = self._failed_checkpoints_in_a_row = 0

    def open(self) -> None:
        """Load the checkpoint, if there is one."""
        if self._checkpoint.exists():
            self.state = load_checkpoint(
                self._checkpoint,
                self.train_step.stage,
                self.train_step.optimizer,
                self._identity,
                steps=self.settings.steps,
            )
        total, squares = self.distributed.sum(self.state.step, self.state.step**2)
        if squares * self.distributed.count != total**2:
            raise DataError(f"{self.folder}: expected the same folder in all processes, got different checkpoints")
        if self.distributed.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("checkpoint.safetensors", "network.safetensors", "log.jsonl"):
                remove_leftovers(self.folder / name)

    def batches(self) -> Generator[tuple[int, list[Batch]], None, None]:
        """Yield the number of each step that is left, and its batches. Closing it ends the loader's workers.

        Raises:
            DataError: a process can't read its samples, or too many had to be replaced.
        """
        passes = self.loader.batches(self.state.step, self.settings.steps)
        for number in range(self.state.step, self.settings.steps):
            restarts, loaded, failure = self.loader.restarts, list[LoadedBatch](), None
            try:
                with self.data_wait.wait():
                    loaded = [next(passes) for _ in range(self.settings.grad_accumulation)]
            except DataError as error:
                failure = error
            reasons = [reason for each in loaded for reason in each.replaced]
            failures, replaced, restarted = map(
                int, self.distributed.sum(failure is not None, len(reasons), self.loader.restarts - restarts)
            )
            if failures:
                raise failure or DataError("training data: another process can't read its samples")
            self._count("samples replaced", replaced)
            self._count("workers restarted", restarted)
            self._replaced_in_step = replaced
            for reason in reasons[: max(MAX_LOGGED_REPLACEMENTS - self._logged_replacements, 0)]:
                logger.warning("step %d: a sample is replaced by another: %s", number, reason)
            self._logged_replacements += len(reasons)
            if self.state.incidents.get("samples replaced", 0) > self.settings.max_replaced:
                raise DataError(
                    f"step {number}: more samples had to be replaced than training.max_replaced, "
                    f"{self.settings.max_replaced}{'; ' + reasons[-1] if reasons else ''}"
                )
            yield number, [each.batch for each in loaded]

    def record(self, number: int, result: StepResult) -> None:
        """Log a step and count it as finished.

        Raises:
            DataError: too many steps in a row were skipped.
        """
        line: dict[str, object] = {"step": number, **result.values, **result.logged}
        line |= {"replaced": self._replaced_in_step} if self._replaced_in_step else {}
        line |= {"skipped": result.skipped} if result.skipped else {}
        if self.log is not None:
            self.log.add(json.dumps(line))
        if result.skipped:
            self._skipped_in_a_row += 1
            self._count("steps skipped", 1)
            if self._skipped_in_a_row == self.settings.max_skipped:
                raise DataError(
                    f"step {number}: {result.skipped}, {self._skipped_in_a_row} steps in a row; the checkpoint is from "
                    "before them: start again with lower learning rates and another --out"
                )
            if self.distributed.first:
                logger.warning("step %d is skipped: %s", number, result.skipped)
        else:
            self._skipped_in_a_row = 0
            latest = [*self.state.latest, result.values][-AVERAGED_STEPS:]
            self.state = replace(self.state, first=self.state.first or result.values, latest=latest)
        self.state = replace(self.state, step=number + 1)

    def save(self, *, last: bool) -> None:
        """Write a checkpoint if one is due; if it can't be written, the next one is tried when it is due.

        Args:
            last: this is the last checkpoint, so it is due and must not fail.

        Raises:
            DataError: the last checkpoint, or too many in a row, can't be written.
        """
        step = self.state.step
        due = step % self.settings.checkpoint_every == 0 and not self._skipped_in_a_row
        if not (due or last):
            return
        failure = self.distributed.write(self._write_checkpoint)
        if failure is None:
            self._failed_checkpoints_in_a_row = 0
            return
        self._failed_checkpoints_in_a_row += 1
        self._count("checkpoints not written", 1)
        if last or self._failed_checkpoints_in_a_row == MAX_FAILED_CHECKPOINTS:
            raise DataError(
                f"{self._checkpoint}: can't write it ({failure}); the previous checkpoint is complete, the same "
                "command resumes from it"
            )
        if self.distributed.first:
            logger.warning("step %d: can't write the checkpoint (%s); the previous one stays", step, failure)

    def close(self) -> None:
        """Save the network.

        Raises:
            OSError: it can't be written.
        """
        path = self.folder / "network.safetensors"
        failure = self.distributed.write(lambda: save_network(path, self.train_step.stage.network))
        if failure is not None:
            raise failure
        self.report()

    def report(self) -> None:
        """Print the share of time spent waiting for data, next to a bar only, and log the number of problems."""
        if self.bar.shown:
            print_to_stderr(f"{self.title}: {self.data_wait.summary(self.settings.workers)}")
        if self.state.incidents and self.distributed.first:
            incidents = ", ".join(f"{kind}: {count}" for kind, count in self.state.incidents.items())
            logger.warning("%s: %s", self.title, incidents)

    def _write_checkpoint(self) -> None:
        assert self.log is not None
        self.log.flush()  # a resumed run needs a line for each step
        step = self.train_step
        save_checkpoint(self._checkpoint, step.stage, step.optimizer, self.state, self._identity)

    def _count(self, kind: str, number: int) -> None:
        if number:
            incidents = self.state.incidents
            self.state = replace(self.state, incidents={**incidents, kind: incidents.get(kind, 0) + number})
