"""Training TIR-CMD's settings, each with those it starts from, in folders beside each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from mmdistill.reference.networks.branches import PARTS, Role, as_tir, assemble
from mmdistill.reference.networks.tracker_network import TrackerNetwork
from mmdistill.reference.networks.weights import load_network, save_network
from mmdistill.reference.training.loop import train
from mmdistill.reference.training.ranks import Ranks
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.unsupervised.cross_modal import CrossModalSettings, CrossModalStage, updated_modules
from mmdistill.reference.training.unsupervised.patch_samples import SettingSamples
from mmdistill.unsupervised import SETTINGS, BranchSetting

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
        if setting.origin is None:
            return start
        path = self.folder / setting.name / "network.safetensors"
        if not setting.trained:
            failure = Ranks.current().write(lambda: save_network(path, start))
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
            name = getattr(setting.origin, "_".join(role), START)
            if name == START or (role[0] == "tcl" and self.start.classifier is None):
                continue
            donors[role] = self.network(name)
        return assemble(self.start, donors)
