"""TIR-CMD's stage: branches of a tracker see RGB or TIR patches without labels, and are tuned to match."""

from __future__ import annotations

import copy
from dataclasses import asdict
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmdistill import BBEDistiller, TCLDistiller, Terms
from mmdistill.reference.models.tracker_network import BRANCHES, FUSED_LEVELS, Role, TrackerNetwork, get_parts
from mmdistill.reference.models.weights import network_digest
from mmdistill.reference.training.data_loader import Batch, BatchShard
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage, score_labels
from mmdistill.reference.training.tir_cmd.settings import CrossModalSettings
from mmdistill.tir_cmd import BranchSetting, mix
from mmdistill.tir_cmd.settings import Branch, Module
from mmdistill.toolkit.data_issues import DataError


class _BranchFeatures(NamedTuple):
    """The trunk's features of a branch's frames, and their targets.

    Attributes:
        shallow: maps of ``layer2``, ``(N, S, C, H, W)``.
        deep: maps of ``layer3``, ``(N, S, C', H / 2, W / 2)``.
        boxes: the patches ``(N, S, 4)``, crop pixels.
    """

    shallow: Tensor
    deep: Tensor
    boxes: Tensor


class CrossModalStage(Stage):
    """A tracker of one modality whose tuned parts are trained to match a frozen copy of the start, the teacher.

    The setting says which parts of which branches of ``network`` are tuned; all other parameters and batch-norm
    statistics stay unchanged. Parts that are not tuned are computed by the teacher, which is no part of this module's
    parameters or state. A setting that tunes both branches doesn't use the teacher.

    Images side by side pass the trunk as one image of double width. Its maps are split into two sequences, left and
    right halves, each with its own target.

    Args:
        network: the start, a TIR tracker on the device to train on; of an ATOM only box estimation is tuned.
        setting: a setting that trains.
        settings: weights and options of the loss.

    Raises:
        DataError: the setting tunes no module of this network.
    """

    def __init__(
        self, network: TrackerNetwork, setting: BranchSetting, settings: CrossModalSettings | None = None
    ) -> None:
        super().__init__()
        self.updated = updated_modules(network, setting)
        self.setting, self.cross_modal = setting, settings or CrossModalSettings()
        self.roles: list[Role] = [(module, branch) for module in self.updated for branch in setting.fine_tuned]
        self.network = network
        self._start = network_digest(network)[:16]
        teacher = copy.deepcopy(network).eval().requires_grad_(False)
        self._teacher = (teacher,)  # a tuple, so that PyTorch does not register it
        self.tcl = TCLDistiller(mu=self.cross_modal.mu, residual=self.cross_modal.residual)
        self.bbe = BBEDistiller(
            lambda *inputs: self._branch_network("bbe", "test").iou_net.predict(*inputs),
            nu=self.cross_modal.nu,
            scale="signed",
        )

    @property
    def teacher(self) -> TrackerNetwork:
        """The network as it was at the start."""
        return self._teacher[0]

    def prepare(self, settings: TrainingSettings) -> None:
        """Put the setting's parts into training mode and freeze all others.

        Raises:
            DataError: a pass has one sample only, too few for batch norm, or the settings ask for compiled code.
        """
        if settings.compile:
            raise DataError(
                "training.compile: can't compile TIR-CMD's loss, which has second derivatives; leave it out"
            )
        size = BatchShard.of(settings, DistributedContext.current()).size
        if size < 2:
            raise DataError(f"training.batch_size: expected at least 2 samples per pass, got {size}")
        self.network.eval().requires_grad_(False)
        for part in get_parts(self.network, self.roles):
            part.train().requires_grad_(True)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run resumes only with the same settings and the same start."""
        return {
            "network": asdict(self.network.settings),
            "setting": asdict(self.setting),
            "cross_modal": asdict(self.cross_modal),
            "start": self._start,
        }

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of TCL and BBE; of both, ``tcl.regularisation`` and ``bbe.regularisation`` are separate."""
        reference, test = self._extract(batch)
        weighted = []
        if "tcl" in self.updated:
            weighted.append((1.0, self._tcl_terms(reference, test)))
        if "bbe" in self.updated:
            weighted.append((self.cross_modal.box, self._bbe_terms(reference, test, batch.proposals)))
        return Terms.weighted(*weighted)

    def _extract(self, batch: Batch) -> tuple[_BranchFeatures, _BranchFeatures]:
        """Return the features of the reference and test branch, computed by the trunk in one batch."""
        layout = self.cross_modal.layout
        images = [
            mix(batch.train, self.setting.reference, layout=layout, dim=1),
            mix(batch.test, self.setting.test, layout=layout, dim=1),
        ]
        counts = [len(branch) for branch in images]
        with torch.no_grad():
            levels = self.network.trunks["one"](torch.cat([branch.flatten(0, 1) for branch in images]))
        halves = images[0].shape[-1] // images[0].shape[-2]  # 2 for images side by side, which become two sequences
        shallow, deep = (
            rearrange(levels[level], "(n s) c h (halves w) -> n (halves s) c h w", n=sum(counts), halves=halves)
            for level in FUSED_LEVELS
        )
        boxes = [values.repeat(1, halves, 1) for values in (batch.train_boxes, batch.test_boxes)]
        features = zip(shallow.split(counts), deep.split(counts), boxes, strict=True)
        reference, test = (_BranchFeatures(*values) for values in features)
        return reference, test

    def _tcl_terms(self, reference: _BranchFeatures, test: _BranchFeatures) -> Terms:
        """Return TCL's terms: the reference branch's filters on the test branch's features."""
        filter_model, score_model = (self._branch_network("tcl", branch).classifier for branch in BRANCHES)
        assert filter_model is not None
        assert score_model is not None
        iterations = self.network.settings.optimiser_iterations
        filters = filter_model.learn(filter_model.features(reference.deep), reference.boxes, iterations)
        label = score_labels(test.boxes, self.network.settings)
        terms: Terms = self.tcl(filters, score_model.features(test.deep), label)
        return terms

    def _bbe_terms(self, reference: _BranchFeatures, test: _BranchFeatures, proposals: Tensor) -> Terms:
        """Return BBE's terms: the reference branch's modulation, the test branch's features and predictor."""
        modulator, predictor = (self._branch_network("bbe", branch).iou_net for branch in BRANCHES)
        # The modulation comes from the first reference frame, as in all training of the IoU-Net.
        modulation = modulator.modulate(reference.shallow[0], reference.deep[0], reference.boxes[0])
        modulation = type(modulation)(*(vector.repeat(len(test.boxes), 1, 1, 1) for vector in modulation))
        features = predictor.features(test.shallow.flatten(0, 1), test.deep.flatten(0, 1))
        proposals = proposals.repeat(1, test.boxes.shape[1] // proposals.shape[1], 1, 1)
        terms: Terms = self.bbe(modulation, features, proposals.flatten(0, 1), test.boxes.flatten(0, 1)[:, None])
        return terms

    def _branch_network(self, module: Module, branch: Branch) -> TrackerNetwork:
        """Return the network that computes a module in a branch: the tuned one or the teacher."""
        return self.network if (module, branch) in self.roles else self.teacher


def updated_modules(network: TrackerNetwork, setting: BranchSetting) -> tuple[Module, ...]:
    """Return the modules that a setting tunes in this network; of an ATOM, without a trained classifier, BBE only.

    Raises:
        DataError: the setting tunes no module of this network.
    """
    modules = tuple(module for module in setting.updated if module == "bbe" or network.classifier is not None)
    if not modules and setting.updated:
        raise DataError(
            f"setting {setting.name}: tunes the classifier only, and an ATOM's is not trained; use B1 to B3"
        )
    return modules
