"""One training loop for every stage: log, checkpoint, stop at any moment, go on.

Which share of its time a run waits for data, and what would help.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch

from mmdistill.reference.models.weights import save_network
from mmdistill.reference.training.checkpoint import Progress, StepLog, load_checkpoint, save_checkpoint
from mmdistill.reference.training.data_loader import Batch, Loaded, Loader, Share
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Samples
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage
from mmdistill.reference.training.train_step import Outcome, TrainStep
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import remove_leftovers
from mmdistill.toolkit.progress import ProgressBar, progress_bar, tell
from mmdistill.toolkit.run_control import Interruption, interruption

MUCH = 0.1
"""From this share on more workers are worth their memory."""


class Waiting:
    """Measures waits, from the end of the first one on: that is for workers to start, not for data.

    Args:
        clock: gives the time, seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._since: float | None = None
        self._waited = 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the time within as waited."""
        start = self._clock()
        yield
        end = self._clock()
        if self._since is None:
            self._since = end
        else:
            self._waited += end - start

    @property
    def share(self) -> float:
        """Time waited by all time; 0 as long as nothing was measured."""
        passed = 0.0 if self._since is None else self._clock() - self._since
        return self._waited / passed if passed > 0 else 0.0

    def told(self, workers: int) -> str:
        """Return the share in words.

        Args:
            workers: how many prepared the data.
        """
        share = self.share
        words = f"waited for data {share:.0%} of the time".replace("%", " %")
        if share < MUCH:
            return words
        better = "more training.workers" if workers else "training.workers, which prepare it beside the steps,"
        return f"{words}; {better} would help if there are cores to spare"


logger = logging.getLogger(__name__)

SHOWN = 20
"""Over how many of the latest steps the shown terms are averaged."""

TOLD = 5
"""How many replaced samples are told one by one."""

UNSAVED = 3
"""After how many checkpoints in a row that could not be written a run stops."""


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
    """Train a stage's network; a run that was stopped goes on from its checkpoint.

    In the folder: ``checkpoint.safetensors`` (everything), ``log.jsonl`` (each step's terms by name, and the entropy of
    MPSD blocks' path weights) and at the end ``network.safetensors`` (the network and its settings, what trackers
    load).

    Where PyTorch has a process group, all its processes must call this with the same arguments; each computes a part
    of every batch, and the first alone writes. What goes wrong on the way is dealt with as docs/training.md says.

    Args:
        stage: what is trained, and its loss.
        sampler: where samples come from.
        settings: how.
        folder: where the run lives; all processes must see it.
        data: what the samples are drawn from, in words; a run goes on only with the same.
        device: where to train.
        title: what the progress bar calls it.
        progress: whether to show a progress bar.

    Returns:
        What the run has come to, all steps done.

    Raises:
        DataError: another process trains in the folder, it holds a run with other settings
            (``TrainingSettings.identity``) or a broken checkpoint, the batch can't be shared out, or more goes wrong
            than the settings allow.
        OSError: the last checkpoint, or the network, can't be written.
        Interruption: a signal (Ctrl-C, SIGTERM, SIGHUP) asked to stop; the checkpoint is written.
    """
    device, ranks = torch.device(device), DistributedContext.current()
    share = Share.of(settings, ranks)
    identity = json.dumps({"training": settings.identity(), "data": data, **stage.settings()})
    learner = TrainStep(stage, settings, device, ranks)
    loader = Loader(sampler, share, workers=settings.workers)
    run = _Run(learner, loader, Path(folder), identity, title)
    with ranks.hold(run.folder):
        run.open()
        _learn(run, quiet=not (progress and ranks.first))
        run.close()
    return run.state


def _learn(run: _Run, *, quiet: bool) -> None:
    """Do the steps that are left.

    Raises:
        Interruption: a signal asked to stop; the checkpoint is written.
    """
    ranks, device, steps = run.ranks, run.learner.device, run.settings.steps
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        interruption() as interrupted,
        closing(StepLog(run.folder / "log.jsonl", run.state.step)) if ranks.first else nullcontext() as log,
        progress_bar(steps, run.title, "step", initial=run.state.step, quiet=quiet) as bar,
    ):
        run.log, run.bar = log, bar
        for number, batches in run.batches():
            run.note(number, run.learner.step(number, batches))
            terms = {name: f"{value:.3g}" for name, value in run.state.last.items()}
            bar.set_postfix({**terms, "waited": f"{run.waiting.share:.0%}"})
            bar.update()
            stopped = ranks.signal(interrupted)
            run.save(must=bool(stopped) or run.state.step == steps)
            if stopped and run.state.step < steps:
                bar.close()
                if ranks.first:
                    tell(f"{run.title}: stopped after step {run.state.step}; the same command goes on from here")
                run.report()
                raise Interruption(stopped)


class _Run:
    """A run's state and its folder, and what is made of all that goes wrong."""

    def __init__(self, learner: TrainStep, loader: Loader, folder: Path, identity: str, title: str) -> None:
        self.learner, self.loader, self.folder, self.title = learner, loader, folder, title
        self.settings, self.ranks, self._identity = learner.settings, learner.ranks, identity
        self.state = Progress(0, {}, [])
        self.log: StepLog | None = None
        self.waiting, self.bar = Waiting(), ProgressBar()
        self._checkpoint = folder / "checkpoint.safetensors"
        self._replaced = self._told = 0
        self._skipped_in_a_row = 0
        self._unsaved_in_a_row = 0

    def open(self) -> None:
        """Load the checkpoint, if there is one."""
        if self._checkpoint.exists():
            self.state = load_checkpoint(
                self._checkpoint,
                self.learner.stage,
                self.learner.optimizer,
                self._identity,
                steps=self.settings.steps,
            )
        total, squares = self.ranks.total(self.state.step, self.state.step**2)
        if squares * self.ranks.count != total**2:
            raise DataError(f"{self.folder}: all processes must see the same folder, but their checkpoints differ")
        if self.ranks.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name in ("checkpoint.safetensors", "network.safetensors", "log.jsonl"):
                remove_leftovers(self.folder / name)

    def batches(self) -> Iterator[tuple[int, list[Batch]]]:
        """Yield the number of each step that is left, and its batches.

        Raises:
            DataError: some process can't read its samples, or too many had to be replaced.
        """
        passes = self.loader.batches(self.state.step, self.settings.steps)
        for number in range(self.state.step, self.settings.steps):
            deaths, loaded, failure = self.loader.deaths, list[Loaded](), None
            try:
                with self.waiting.wait():
                    loaded = [next(passes) for _ in range(self.settings.accumulate)]
            except DataError as error:
                failure = error
            reasons = [reason for each in loaded for reason in each.replaced]
            failures, replaced, died = map(
                int, self.ranks.total(failure is not None, len(reasons), self.loader.deaths - deaths)
            )
            if failures:
                raise failure or DataError("training data: another process can't read its samples")
            self._count("samples replaced", replaced)
            self._count("workers started again", died)
            self._replaced = replaced
            for reason in reasons[: max(TOLD - self._told, 0)]:
                logger.warning("step %d: a sample is replaced by another: %s", number, reason)
            self._told += len(reasons)
            if self.state.incidents.get("samples replaced", 0) > self.settings.replaced_limit:
                raise DataError(
                    f"step {number}: more samples had to be replaced than training.replaced_limit, "
                    f"{self.settings.replaced_limit}{'; ' + reasons[-1] if reasons else ''}"
                )
            yield number, [each.batch for each in loaded]

    def note(self, number: int, outcome: Outcome) -> None:
        """Log a step and count it as done.

        Raises:
            DataError: too many in a row were skipped.
        """
        line: dict[str, object] = {"step": number, **outcome.values, **outcome.logged}
        line |= {"replaced": self._replaced} if self._replaced else {}
        line |= {"skipped": outcome.skipped} if outcome.skipped else {}
        if self.log is not None:
            self.log.add(json.dumps(line))
        if outcome.skipped:
            self._skipped_in_a_row += 1
            self._count("steps skipped", 1)
            if self._skipped_in_a_row == self.settings.skipped_limit:
                raise DataError(
                    f"step {number}: {outcome.skipped}, {self._skipped_in_a_row} steps in a row; "
                    "the checkpoint is of before; start anew with lower learning rates and another --out"
                )
            if self.ranks.first:
                logger.warning("step %d is skipped: %s", number, outcome.skipped)
        else:
            self._skipped_in_a_row = 0
            latest = [*self.state.latest, outcome.values][-SHOWN:]
            self.state = replace(self.state, first=self.state.first or outcome.values, latest=latest)
        self.state = replace(self.state, step=number + 1)

    def save(self, *, must: bool) -> None:
        """Write a checkpoint where one is due; one that can't be written is tried again when the next is.

        Raises:
            DataError: there will be no next, or too many in a row failed.
        """
        step = self.state.step
        due = step % self.settings.checkpoint_every == 0 and not self._skipped_in_a_row
        if not (due or must):
            return
        failure = self.ranks.write(self._write)
        if failure is None:
            self._unsaved_in_a_row = 0
            return
        self._unsaved_in_a_row += 1
        self._count("checkpoints not written", 1)
        if must or self._unsaved_in_a_row == UNSAVED:
            raise DataError(
                f"{self._checkpoint}: can't be written ({failure}); the one before is whole, and the same command goes "
                "on from there"
            )
        if self.ranks.first:
            logger.warning("step %d: the checkpoint can't be written (%s); the one before stays", step, failure)

    def close(self) -> None:
        """Save the network.

        Raises:
            OSError: it can't be written.
        """
        path = self.folder / "network.safetensors"
        failure = self.ranks.write(lambda: save_network(path, self.learner.stage.network))
        if failure is not None:
            raise failure
        self.report()

    def report(self) -> None:
        """Say what went wrong and was dealt with, since the run's beginning; and to who watches, what took time."""
        if self.bar.shown:
            tell(f"{self.title}: {self.waiting.told(self.settings.workers)}")
        if self.state.incidents and self.ranks.first:
            found = ", ".join(f"{kind}: {count}" for kind, count in self.state.incidents.items())
            logger.warning("%s: %s", self.title, found)

    def _write(self) -> None:
        assert self.log is not None
        self.log.flush()  # a run that goes on from here needs a line for each step
        save_checkpoint(self._checkpoint, self.learner.stage, self.learner.optimizer, self.state, self._identity)

    def _count(self, kind: str, number: int) -> None:
        if number:
            incidents = self.state.incidents
            self.state = replace(self.state, incidents={**incidents, kind: incidents.get(kind, 0) + number})
