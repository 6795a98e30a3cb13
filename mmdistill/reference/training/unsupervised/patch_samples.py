"""The samples that TIR-CMD's settings learn from: of the same pairs, each setting's own patches."""

from __future__ import annotations

from typing import NamedTuple

from mmdistill.reference.data.box_detector import BoxFiles
from mmdistill.reference.data.pairs import Pairs
from mmdistill.reference.data.patch_sequences import PatchedPairs, PatchesOf, patch_sequences
from mmdistill.reference.data.sampling import Sampler
from mmdistill.reference.networks.settings import NetworkSettings
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.unsupervised import BranchSetting, CenterArea, Detection, Patches, RandomSampling, SaliencyDetector


class SettingSamples(NamedTuple):
    """What a setting learns from: samples, and in words what they are drawn from."""

    sampler: Sampler
    data: str


class PatchSamples:
    """Gives settings their samples; pairs are searched once for each kind of patches.

    Args:
        pairs: opened with ``on_broken="skip"``.
        network: of the tracker, for the size of its crops.
        boxes: what a detector found elsewhere; without it, patches by detection are what stands out.
        progress: whether to show progress bars.

    Attributes:
        patched: for each kind of patches that was asked for, what was made of the pairs.
    """

    def __init__(
        self, pairs: Pairs, network: NetworkSettings, *, boxes: BoxFiles | None = None, progress: bool = True
    ) -> None:
        self.pairs, self.network, self.boxes, self.progress = pairs, network, boxes, progress
        self.patched: dict[str, PatchedPairs] = {}

    def __call__(self, setting: BranchSetting, training: TrainingSettings) -> SettingSamples:
        """Return a setting's samples.

        Raises:
            DataError: no pair has a patch.
        """
        kind = setting.patches or "center"
        if kind not in self.patched:
            self.patched[kind] = patch_sequences(
                self.pairs, self._patches_of(kind), seed=training.seed, progress=self.progress
            )
        sampler = Sampler(
            self.patched[kind].sequences,
            self.network.crop_size,
            self.network.search_area,
            training.samples,
            seed=training.seed,
        )
        found = "saliency" if self.boxes is None else str(self.boxes.folder)
        words = f"{self.pairs.title}, {len(self.pairs)} pairs, {kind}"
        return SettingSamples(sampler, f"{words} by {found}" if kind == "detection" else words)

    def _patches_of(self, kind: str) -> PatchesOf:
        boxes = self.boxes
        if kind == "detection" and boxes is not None:
            return lambda name: Detection(boxes.detector(name), modalities=("rgb",))  # the same boxes for either
        patches: dict[str, Patches] = {
            "center": CenterArea(),
            "random": RandomSampling(),
            "detection": Detection(SaliencyDetector()),
        }
        return lambda name: patches[kind]  # noqa: ARG005
