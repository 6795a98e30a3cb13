"""Training TIR-CMD's settings, each with those it starts from, in folders beside each other.

How long and how fast TIR-CMD trains: the paper's schedule, and a short one for trying out, as data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from mmdistill.reference.models.tracker_network import PARTS, Role, TrackerNetwork, as_tir, assemble
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import SampleSettings
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.tir_cmd.samples import SettingSamples
from mmdistill.reference.training.tir_cmd.stage import CrossModalSettings, CrossModalStage, updated_modules
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS, BranchSetting
from mmdistill.toolkit.ranges import PositiveInt, Range, check_fields

START = "A1"
"""The setting that is the start itself."""


class SettingRuns:
    """Runs of TIR-CMD's settings from one start, each in a folder of its name; one that is finished is not run again.

    Args:
        start: the tracker that all begin with, RGB or TIR; its copies are TIR trackers.
        samples: gives the samples of a setting's patches.
        training: how a setting is trained.
        folder: where the settings' folders are.
        settings: weights and options of the loss.
        device: where to train.
        progress: whether to show progress bars.

    Raises:
        DataError: the start is a tracker of both modalities.
    """

    def __init__(
        self,
        start: TrackerNetwork,
        samples: Callable[[BranchSetting, TrainingSettings], SettingSamples],
        training: Callable[[BranchSetting], TrainingSettings],
        folder: str | Path,
        *,
        settings: CrossModalSettings | None = None,
        device: torch.device | str = "cpu",
        progress: bool = True,
    ) -> None:
        self.start, self.folder = as_tir(start), Path(folder)
        self._samples, self._training = samples, training
        self._settings, self._device, self._progress = settings, device, progress
        self._done: dict[str, TrackerNetwork] = {}

    def network(self, name: str) -> TrackerNetwork:
        """Return a setting's network, in evaluation mode.

        It is ``network.safetensors`` in the setting's folder too; A1, the start itself, has none.

        Raises:
            DataError: the setting has nothing to tune in this tracker, or its folder holds another run.
            Interruption: a signal asked to stop; the same call then goes on.
        """
        if name not in self._done:
            updated_modules(self.start, SETTINGS[name])  # refused before its forerunners are trained
            self._done[name] = self._made(SETTINGS[name])
        return self._done[name]

    def _made(self, setting: BranchSetting) -> TrackerNetwork:
        start = self._start_of(setting)
        if setting.initial_weights is None:
            return start
        path = self.folder / setting.name / "network.safetensors"
        if not setting.trained:
            failure = DistributedContext.current().write(lambda: save_network(path, start))
            if failure is not None:
                raise failure
            return start
        stage = CrossModalStage(start.to(self._device), setting, self._settings)
        training = self._training(setting)
        sampler, data = self._samples(setting, training)
        train(
            stage,
            sampler,
            training,
            path.parent,
            data=data,
            device=self._device,
            title=setting.name,
            progress=self._progress,
        )
        return load_network(path)

    def _start_of(self, setting: BranchSetting) -> TrackerNetwork:
        """Return a new network: the start of all, with the parts that the setting takes from others."""
        donors: dict[Role, TrackerNetwork] = {}
        for role in PARTS:
            name = getattr(setting.initial_weights, "_".join(role), START)
            if name == START or (role[0] == "tcl" and self.start.classifier is None):
                continue
            donors[role] = self.network(name)
        return assemble(self.start, donors)


RateFactor = Annotated[float, Range(0, 10**9)]


@dataclass(frozen=True)
class Schedule:
    """Steps and learning rates, for any setting.

    Attributes:
        steps: training steps of each setting.
        rate_factor: what the setting's learning rates are multiplied by.
        halvings: how often the learning rates are halved, at equal distances, the last of which is cut short.
        sequences: patches in a batch.
        checkpoint_every: steps between checkpoints.
        kept_statistics: whether what is tuned keeps the start's batch-norm statistics. The paper tunes them too; in
            batches of five pairs what learns is then another function than what tracks (docs/tir.md has figures).
    """

    steps: PositiveInt
    rate_factor: RateFactor = 1.0
    halvings: Annotated[float, Range(0, 1000, above=True)] = 50 / 15
    sequences: Annotated[int, Range(1, 10**6)] = 5
    checkpoint_every: PositiveInt = 500
    kept_statistics: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def training(self, setting: BranchSetting, **options: object) -> TrainingSettings:
        """Return how a setting is trained; options go to the ``TrainingSettings``."""
        rates = setting.learning_rates
        box, classification = ((rate or 0.0) * self.rate_factor for rate in (rates.bbe, rates.tcl))
        return TrainingSettings(
            steps=self.steps,
            sequences=self.sequences,
            learning_rates=LearningRates(iou_net=box, classifier=classification, optimizer=classification),
            decay_every=max(round(self.steps / self.halvings), 1),
            decay_factor=0.5,
            frozen_trunk=True,
            statistics_until=0 if self.kept_statistics else None,
            checkpoint_every=self.checkpoint_every,
            samples=SampleSettings(train_frames=1, test_frames=1),
            **options,  # type: ignore[arg-type]
        )


SCHEDULES: Mapping[str, Schedule] = {
    # 50 epochs of 26,000 samples, 5 a batch; halved every 15 epochs.
    "paper": Schedule(steps=50 * 26_000 // 5),
    # Steps a thousandth of the paper's, rates a hundred times: a tenth of the way that Adam can go.
    "short": Schedule(steps=260, rate_factor=100.0, checkpoint_every=50),
}
"""The schedules by name."""
