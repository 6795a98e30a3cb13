"""TIR-CMD's stage: one branch sees RGB, the other TIR, and what sees TIR learns, on patches that nobody labeled."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from mmdistill import BBEDistiller, TCLDistiller, Terms
from mmdistill.reference.models.tracker_network import BRANCHES, FUSED_LEVELS, Role, TrackerNetwork, get_parts
from mmdistill.reference.models.weights import network_digest
from mmdistill.reference.training.data_loader import Batch, Share
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import Stage
from mmdistill.reference.training.tracking_loss import labels
from mmdistill.tir_cmd import BranchSetting, mix
from mmdistill.tir_cmd.settings import Branch, Module
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.ranges import Weight, check_fields


@dataclass(frozen=True)
class CrossModalSettings:
    """Weights and options of TIR-CMD's loss (eq. 1 to 3).

    Attributes:
        box: lambda, the weight of BBE beside TCL. The two teach different parameters, and Adam takes no notice of a
            gradient's scale: what counts are their learning rates.
        mu: weight of the filter's squared norm.
        nu: weight of the modulation's squared norm.
        residual: TCL's: DiMP's hinge, by which the start was trained, or the paper's squared one, which first of all
            pulls a DiMP's negative scores of background to 0, and its peaks with them (docs/tir.md has figures).
        layout: how RGB and TIR are mixed in the settings that mix them: by halves of the batch, or side by side.
    """

    box: Weight = 1.0
    mu: Weight = 1e-4
    nu: Weight = 1e-5
    residual: Literal["squared", "hinge"] = "hinge"
    layout: Literal["halves", "side-by-side"] = "halves"

    def __post_init__(self) -> None:
        check_fields(self)


class _Seen(NamedTuple):
    """What a branch sees of the patches.

    Attributes:
        shallow: maps of ``layer2``, ``(N, S, C, H, W)``.
        deep: maps of ``layer3``, ``(N, S, C', H / 2, W / 2)``.
        boxes: the patches ``(N, S, 4)``, crop pixels.
    """

    shallow: Tensor
    deep: Tensor
    boxes: Tensor


class CrossModalStage(Stage):
    """A tracker of one modality, of which some parts of some branches learn from the parts of a frozen copy.

    What the setting tunes, it tunes in ``network``; nothing else of it moves, neither parameters nor batch-norm
    statistics. What is not tuned is done by the network as it was at the start, the teacher, which is no part of this
    module's parameters or state. Where both branches are tuned the teacher has nothing left to do.

    Images side by side pass the trunk as one image of double width; its maps are taken apart again into two sequences,
    left halves and right ones, so that either is a target of its own.

    Args:
        network: the start, a TIR tracker, on the device where it is trained; of an ATOM the box estimation alone is
            tuned.
        setting: one that trains.
        settings: weights and options of the loss.

    Raises:
        DataError: the setting has nothing to tune in it.
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
        self._teacher = (teacher,)  # in a tuple, so that it is not registered
        self.tcl = TCLDistiller(mu=self.cross_modal.mu, residual=self.cross_modal.residual)
        self.bbe = BBEDistiller(
            lambda *inputs: self._acting("bbe", "test").iou_net.predict(*inputs), nu=self.cross_modal.nu, scale="signed"
        )

    @property
    def teacher(self) -> TrackerNetwork:
        """The network as it was at the start."""
        return self._teacher[0]

    def prepare(self, settings: TrainingSettings) -> None:
        """Let the setting's parts learn, and nothing else.

        Raises:
            DataError: batches of one sequence, of which batch norm has no statistics.
        """
        size = Share.of(settings, DistributedContext.current()).size
        if size < 2:
            raise DataError(f"training.sequences: expected at least 2 pairs a batch, got {size} for each pass")
        self.network.eval().requires_grad_(False)
        for part in get_parts(self.network, self.roles):
            part.train().requires_grad_(True)

    def settings(self) -> dict[str, object]:
        """Return all settings by name; a run goes on only with the same, and from the same start."""
        return {
            "network": asdict(self.network.settings),
            "setting": asdict(self.setting),
            "cross_modal": asdict(self.cross_modal),
            "start": self._start,
        }

    def forward(self, batch: Batch) -> Terms:
        """Return the terms of TCL and of BBE; both together have ``tcl.regularisation`` and ``bbe.regularisation``."""
        known, seen = self._extract(batch)
        weighted = []
        if "tcl" in self.updated:
            weighted.append((1.0, self._locate(known, seen)))
        if "bbe" in self.updated:
            weighted.append((self.cross_modal.box, self._estimate(known, seen, batch.proposals)))
        return Terms.weighted(*weighted)

    def _extract(self, batch: Batch) -> tuple[_Seen, _Seen]:
        """Return what the reference branch and what the test branch sees, through the trunk in one batch."""
        layout = self.cross_modal.layout
        images = [
            mix(batch.train, self.setting.reference, layout=layout, dim=1),
            mix(batch.test, self.setting.test, layout=layout, dim=1),
        ]
        counts = [len(branch) for branch in images]
        with torch.no_grad():
            levels = self.network.trunks["one"](torch.cat([branch.flatten(0, 1) for branch in images]))
        # Two images side by side become two sequences.
        beside = images[0].shape[-1] // images[0].shape[-2]
        shallow, deep = (
            rearrange(levels[level], "(n s) c h (beside w) -> n (beside s) c h w", n=sum(counts), beside=beside)
            for level in FUSED_LEVELS
        )
        boxes = [values.repeat(1, beside, 1) for values in (batch.train_boxes, batch.test_boxes)]
        known, seen = (_Seen(*values) for values in zip(shallow.split(counts), deep.split(counts), boxes, strict=True))
        return known, seen

    def _locate(self, known: _Seen, seen: _Seen) -> Terms:
        """Return TCL's terms: the reference branch's filters on the test branch's features."""
        reference, test = (self._acting("tcl", branch).classifier for branch in BRANCHES)
        assert reference is not None
        assert test is not None
        iterations = self.network.settings.optimiser_iterations
        filters = reference.learn(reference.features(known.deep), known.boxes, iterations)
        terms: Terms = self.tcl(filters, test.features(seen.deep), labels(seen.boxes, self.network.settings))
        return terms

    def _estimate(self, known: _Seen, seen: _Seen, proposals: Tensor) -> Terms:
        """Return BBE's terms: the reference branch's modulation, the test branch's features and predictor."""
        reference, test = (self._acting("bbe", branch).iou_net for branch in BRANCHES)
        # As in all training of the IoU-Net, the first reference frame says what the target is.
        modulation = reference.modulate(known.shallow[0], known.deep[0], known.boxes[0])
        modulation = type(modulation)(*(vector.repeat(len(seen.boxes), 1, 1, 1) for vector in modulation))
        features = test.features(seen.shallow.flatten(0, 1), seen.deep.flatten(0, 1))
        proposals = proposals.repeat(1, seen.boxes.shape[1] // proposals.shape[1], 1, 1)
        terms: Terms = self.bbe(modulation, features, proposals.flatten(0, 1), seen.boxes.flatten(0, 1)[:, None])
        return terms

    def _acting(self, module: Module, branch: Branch) -> TrackerNetwork:
        """Return the network that does a module's work in a branch."""
        return self.network if (module, branch) in self.roles else self.teacher


def updated_modules(network: TrackerNetwork, setting: BranchSetting) -> tuple[Module, ...]:
    """Return the modules that a setting updates in this network: without a trained classifier, BBE alone (CMD-ATOM).

    Raises:
        DataError: the setting has nothing to update in it.
    """
    found = tuple(module for module in setting.updated if module == "bbe" or network.classifier is not None)
    if not found and setting.updated:
        raise DataError(
            f"setting {setting.name}: tunes the classifier alone, and an ATOM's is not trained; try B1 to B3"
        )
    return found
