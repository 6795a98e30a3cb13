"""Training runs and schedules of TIR-CMD's settings; a setting first trains the settings it starts from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch

from mmdistill.reference.models.tracker_network import PARTS, Role, TrackerNetwork, combine_networks, to_tir_network
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import SampleSettings
from mmdistill.reference.training.settings import LearningRates, TrainingSettings
from mmdistill.reference.training.tir_cmd.samples import SettingSamples
from mmdistill.reference.training.tir_cmd.stage import CrossModalSettings, CrossModalStage, updated_modules
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS, BranchSetting
from mmdistill.toolkit.ranges import PositiveInt, Range, check_fields

START_SETTING = "A1"
"""The setting without training: the start tracker itself."""


class SettingRuns:
    """Runs of TIR-CMD's settings from one tracker, each in a folder of its name; finished runs are reused.

    Args:
        start: the tracker that all settings start from, RGB or TIR; its copies are TIR trackers.
        samples: returns a setting's samples.
        training: returns a setting's training settings.
        folder: parent of the settings' folders.
        settings: weights and options of the loss.
        device: the device to train on.
        progress: show progress bars.

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
        self.start, self.folder = to_tir_network(start), Path(folder)
        self._samples, self._training = samples, training
        self._settings, self._device, self._progress = settings, device, progress
        self._networks: dict[str, TrackerNetwork] = {}

    def network(self, name: str) -> TrackerNetwork:
        """Return a setting's trained network, in evaluation mode.

        The setting's folder has it as ``network.safetensors``, except for A1, the start itself.

        Raises:
            DataError: the setting tunes no module of this tracker, or its folder holds another run.
            Interruption: a signal stopped the run; the same call resumes it.
        """
        if name not in self._networks:
            updated_modules(self.start, SETTINGS[name])  # raises before other settings are trained
            self._networks[name] = self._train(SETTINGS[name])
        return self._networks[name]

    def _train(self, setting: BranchSetting) -> TrackerNetwork:
        start = self._initial_network(setting)
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

    def _initial_network(self, setting: BranchSetting) -> TrackerNetwork:
        """Return a new network: the start with the parts that the setting copies from other settings."""
        donors: dict[Role, TrackerNetwork] = {}
        for role in PARTS:
            name = getattr(setting.initial_weights, "_".join(role), START_SETTING)
            if name == START_SETTING or (role[0] == "tcl" and self.start.classifier is None):
                continue
            donors[role] = self.network(name)
        return combine_networks(self.start, donors)


RateFactor = Annotated[float, Range(0, 10**9)]


@dataclass(frozen=True)
class Schedule:
    """Number of steps and learning rates of all settings.

    Attributes:
        steps: training steps of each setting.
        rate_factor: factor on the setting's learning rates.
        halvings: number of periods after which the learning rates are halved; the last period may be incomplete.
        batch_size: patches per batch.
        checkpoint_every: steps between checkpoints.
        freeze_bn: keep the start's batch-norm statistics. The paper updates them; but in batches of five pairs, the
            trained network then differs from the one that tracks (docs/tir.md has figures).
    """

    steps: PositiveInt
    rate_factor: RateFactor = 1.0
    halvings: Annotated[float, Range(0, 1000, above=True)] = 50 / 15
    batch_size: Annotated[int, Range(1, 10**6)] = 5
    checkpoint_every: PositiveInt = 500
    freeze_bn: bool = True

    def __post_init__(self) -> None:
        check_fields(self)

    def training(self, setting: BranchSetting, **options: object) -> TrainingSettings:
        """Return a setting's training settings; ``options`` are further fields of ``TrainingSettings``."""
        rates = setting.learning_rates
        box, classification = ((rate or 0.0) * self.rate_factor for rate in (rates.bbe, rates.tcl))
        return TrainingSettings(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rates=LearningRates(iou_net=box, classifier=classification, optimizer=classification),
            decay_every=max(round(self.steps / self.halvings), 1),
            decay_factor=0.5,
            freeze_trunk=True,
            freeze_bn_after=0 if self.freeze_bn else None,
            checkpoint_every=self.checkpoint_every,
            samples=SampleSettings(train_frames=1, test_frames=1),
            **options,  # type: ignore[arg-type]
        )


SCHEDULES: Mapping[str, Schedule] = {
    # 50 epochs of 26,000 samples, 5 a batch; halved every 15 epochs.
    "paper": Schedule(steps=50 * 26_000 // 5),
    # A thousandth of the steps and a hundred times the rates: Adam can move parameters a tenth as far.
    "short": Schedule(steps=260, rate_factor=100.0, checkpoint_every=50),
}
"""The schedules by name."""
