"""Training runs of TIR-CMD's settings; a setting first trains the settings it starts from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmdistill.reference.models.tracker_network import PARTS, Role, TrackerNetwork, combine_networks, to_tir_network
from mmdistill.reference.models.weights import load_network, save_network
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.tir_cmd.samples import SettingSamples
from mmdistill.reference.training.tir_cmd.settings import CrossModalSettings
from mmdistill.reference.training.tir_cmd.stage import CrossModalStage, updated_modules
from mmdistill.reference.training.trainer import train
from mmdistill.tir_cmd import SETTINGS, BranchSetting

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
