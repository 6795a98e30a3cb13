"""Work that the rows of a seed share, done once and kept in files: samples, and the teacher's features of each batch.

All rows of a seed train on the same samples, and the teacher is frozen: half of a distilled student's training would
be the same again. Values are those of the computation, bit for bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdistill.pair import Pair
from mmdistill.reference.training.data_loader import Batch
from mmdistill.reference.training.distillation import (
    PARTS_ON_FUSED,
    PARTS_ON_LEVELS,
    PARTS_ON_RESPONSE,
    DistillationFeatures,
)
from mmdistill.reference.training.sampler import Crops, Sample, Samples
from mmdistill.reference.training.stages import DistilledStage
from mmdistill.toolkit.io import atomic_path

FEATURES: Mapping[str, frozenset[str]] = {
    "levels": PARTS_ON_LEVELS,
    "fused": PARTS_ON_FUSED,
    "response": PARTS_ON_RESPONSE,
}
"""The fields of ``DistillationFeatures``, and the parts that compare them."""


class KeptSamples:
    """Samples that are read from files; one that has no file yet is drawn and written.

    Args:
        samples: draws the samples.
        folder: the files of these samples only.
    """

    def __init__(self, samples: Samples, folder: Path) -> None:
        self.samples, self.folder = samples, folder

    def sample(self, number: int) -> Sample:
        """Return sample ``number``."""
        file = self.folder / f"{number}.pt"
        if not file.exists():
            _write(file, _sample_to_tensors(self.samples.sample(number)))
        train, test, proposals, overlaps = torch.load(file, weights_only=True)
        return Sample(_crops(*train), _crops(*test), proposals.numpy(), overlaps.numpy())


class KeptFeaturesStage(DistilledStage):
    """Reads the teacher's features of a batch from files; without a file they are computed and written.

    A file's name has the digest of the batch's images and boxes, so it never serves another batch.

    Attributes:
        folder: the files of this teacher only; None to compute all features.
    """

    folder: Path | None = None

    def teacher_features(self, batch: Batch) -> DistillationFeatures:
        """Return the teacher's features on a batch's test frames, as far as the parts compare them."""
        if self.folder is None:
            return super().teacher_features(batch)
        parts = set(self.distillation_settings.parts)
        digest = _digest(batch)
        files = {name: self.folder / f"{digest}_{name}.pt" for name, users in FEATURES.items() if users & parts}
        if not all(file.exists() for file in files.values()):
            features = super().teacher_features(batch)
            for name, file in files.items():
                if not file.exists():
                    _write(file, _copied(getattr(features, name)))
            return features
        device = batch.train_boxes.device
        read = {name: torch.load(file, map_location=device, weights_only=True) for name, file in files.items()}
        levels = Pair(*read["levels"]) if "levels" in read else None
        return DistillationFeatures(levels, read.get("fused"), read.get("response"))


def _digest(batch: Batch) -> str:
    """Return the SHA-256 of everything in a batch that a teacher sees."""
    digest = hashlib.sha256()
    for tensor in (*batch.train, batch.train_boxes, *batch.test):
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()


def _copied(value: Any) -> Any:
    """Return tensors in lists; each is a copy, because a view would be written with all of its memory."""
    return value.clone() if isinstance(value, Tensor) else [_copied(each) for each in value]


def _sample_to_tensors(sample: Sample) -> list[Any]:
    crops = [
        ([[*map(torch.from_numpy, images)] for images in crops.images], torch.from_numpy(crops.boxes))
        for crops in (sample.train, sample.test)
    ]
    return [*crops, torch.from_numpy(sample.proposals), torch.from_numpy(sample.overlaps)]


def _crops(images: Sequence[Sequence[Tensor]], boxes: Tensor) -> Crops:
    return Crops(Pair(*([image.numpy() for image in modality] for modality in images)), boxes.numpy())


def _write(file: Path, tensors: Any) -> None:
    with atomic_path(file) as temporary:
        torch.save(tensors, temporary)
