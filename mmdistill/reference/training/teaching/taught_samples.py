"""What a teacher says of fixed samples, asked once and kept on disk.

A sample's features are computed in the very batch that training puts it in, so on a CPU a run from the cache computes
the same bits as one that asks the teacher at every step.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmdistill import NotFiniteError, __version__
from mmdistill.cache import CacheError, DamagedFileError, FeatureCache
from mmdistill.reference.data.batches import Batch
from mmdistill.reference.data.sampling import Sample, Sampler, Samples
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.errors import DataError
from mmdistill.reference.files import write_text
from mmdistill.reference.interruption import Interruption, interruption
from mmdistill.reference.networks.weights import network_digest
from mmdistill.reference.progress import progress_bar, tell
from mmdistill.reference.training.loading import Loader, Share
from mmdistill.reference.training.ranks import Ranks
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.reference.training.stages import DistilledStage
from mmdistill.reference.training.teaching.fixed_samples import FixedSamples

logger = logging.getLogger(__name__)

SPARE = 0.02
"""Beyond its size, what a cache must find free: file systems have an overhead."""

ABANDONED = 3600
"""Seconds after which a file that is still half written belongs to nobody."""


class TaughtSamples:
    """Samples with what the teacher says of them, as far as it is on disk.

    Where it is not, or the file is broken, a batch comes without, and the stage asks the teacher.

    Args:
        samples: the source.
        cache: where it is.
    """

    def __init__(self, samples: Samples, cache: FeatureCache) -> None:
        self.samples, self.cache = samples, cache

    def sample(self, number: int) -> Sample:
        """Return sample ``number``."""
        sample = self.samples.sample(number)
        key = str(sample.number)
        if key not in self.cache:
            return sample
        try:
            taught = self.cache.get([key])
        except CacheError as error:
            logger.warning("the teacher is asked again: %s", error)
            return sample
        return sample._replace(taught={name: values[0] for name, values in taught.items()})


def contents(
    stage: DistilledStage,
    sampler: Sampler,
    settings: TrainingSettings,
    *,
    data: str,
    device: torch.device,
    ranks: Ranks,
) -> dict[str, object]:
    """Return all that a teacher's features depend on, by name.

    Args:
        stage: which teacher, and which of its features.
        sampler: which samples; their labels are looked at, their images are not.
        settings: which samples meet in a batch, and the precision.
        data: what the samples are drawn from, in words.
        device: where the features are computed.
        ranks: the processes that share out a batch.
    """
    return {
        "teacher": network_digest(stage.teacher),
        "network": asdict(stage.teacher.settings),
        "parts": sorted(stage.parts.parts),
        "data": data,
        "labels": _digest_of_labels(sampler.sequences),
        "samples": asdict(sampler.settings),
        "seed": sampler.seed,
        "crop_size": sampler.crop_size,
        "search_area": sampler.search_area,
        "batch": {"sequences": settings.sequences, "passes": settings.accumulate, "processes": ranks.count},
        "precision": settings.precision,
        "computed by": {"mmdistill": __version__, "torch": torch.__version__, "device": device.type},
    }


def taught_samples(
    folder: str | Path,
    stage: DistilledStage,
    sampler: Sampler,
    count: int,
    settings: TrainingSettings,
    *,
    data: str = "",
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> TaughtSamples:
    """Ask the teacher about each of a fixed number of samples that is not on disk yet, and return the samples.

    How much will be written is said before. What is there of the same teacher and samples is taken as it is; each set
    has a folder of its own, whose name says all that it depends on.

    Args:
        folder: where all caches lie; all processes must see it.
        stage: the student's, with the teacher on its device.
        sampler: where samples come from.
        count: how many there are.
        settings: of the training.
        data: what the samples are drawn from, in words.
        device: where to train.
        progress: whether to show a progress bar.

    Returns:
        The samples.

    Raises:
        DataError: the disk has no room for them, a sample can't be read, or the cache's folder holds other files.
        Interruption: a signal asked to stop; the same call then goes on.
    """
    device, ranks = torch.device(device), Ranks.current()
    fixed, share = FixedSamples(sampler, count, settings), Share.of(settings, ranks)
    about = contents(stage, sampler, settings, data=data, device=device, ranks=ranks)
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    place = Path(folder) / digest[:16]
    if ranks.first:
        write_text(place / "contents.json", json.dumps(about, indent=2) + "\n")
        _remove_leftovers(place)
    ranks.any(False)  # the others wait for that
    cache = _open(place, digest)
    asked = _Asked(cache, share, Loader(fixed, share, workers=settings.workers), count)
    todo = len(asked) * share.size
    with interruption() as interrupted, progress_bar(len(asked), "teacher", "batch", quiet=not progress) as bar:
        batches = asked.batches()
        batch = next(batches, None)
        taught = None if batch is None else _teach(stage, batch, settings, device)
        size = 0 if taught is None else sum(value.nbytes for value in taught.values()) // share.size
        _announce(place, ranks, todo, size)
        while batch is not None and taught is not None:
            _keep(cache, batch, taught)
            bar.update()
            batch = None if interrupted else next(batches, None)
            taught = None if batch is None else _teach(stage, batch, settings, device)
        stopped = ranks.signal(interrupted)
    if stopped:
        if ranks.first:
            tell("teacher: stopped; the same command goes on from here")
        raise Interruption(stopped)
    return TaughtSamples(fixed, cache)


class _Asked:
    """The batches of one process in which a sample is that the teacher has not been asked about."""

    def __init__(self, cache: FeatureCache, share: Share, loader: Loader, count: int) -> None:
        self._loader, self._share = loader, share
        self._steps = [step for step in range(count // share.sequences) if not self._known(cache, step)]

    def __len__(self) -> int:
        return len(self._steps) * self._share.passes

    def batches(self) -> Iterator[Batch]:
        start = 0
        for end in range(1, len(self._steps) + 1):
            # Steps that follow each other are loaded in one go: workers are started anew for each.
            if end == len(self._steps) or self._steps[end] != self._steps[end - 1] + 1:
                for loaded in self._loader.batches(self._steps[start], self._steps[end - 1] + 1):
                    yield loaded.batch
                start = end

    def _known(self, cache: FeatureCache, step: int) -> bool:
        size = self._share.size * self._share.passes
        return all(str(self._share.number(index)) in cache for index in range(step * size, (step + 1) * size))


def _open(place: Path, teacher: str) -> FeatureCache:
    """Open a cache; what is damaged in it is removed, so that the teacher is asked again.

    Raises:
        DataError: a file in it is no file of this cache.
    """
    while True:
        try:
            return FeatureCache(place, teacher=teacher)
        except DamagedFileError as error:
            logger.warning("the teacher is asked again: %s", error)
            error.path.unlink(missing_ok=True)
        except CacheError as error:
            raise DataError(f"--teacher-cache: {error}") from error


def _teach(stage: DistilledStage, batch: Batch, settings: TrainingSettings, device: torch.device) -> dict[str, Tensor]:
    """Ask as the learner does."""
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        return stage.teach(batch.to(device))


def _announce(place: Path, ranks: Ranks, todo: int, size: int) -> None:
    """Say how much all processes will write.

    Raises:
        DataError: it is more than there is room for.
    """
    samples, needed = map(int, ranks.total(todo, todo * size))
    if not samples:
        return
    free = shutil.disk_usage(place).free
    planned = f"{_bytes(needed)} for {samples:,} samples of {_bytes(needed / samples)} each"
    if needed * (1 + SPARE) > free:
        raise DataError(
            f"--teacher-cache: {place} would take {planned}, and the disk has {_bytes(free)} free; "
            "take fewer --fixed-samples or fewer parts"
        )
    if ranks.first:
        print(f"teacher: {planned}, of {_bytes(free)} free, in {place}", file=sys.stderr)


def _keep(cache: FeatureCache, batch: Batch, taught: dict[str, Tensor]) -> None:
    """Write each sample's features.

    Raises:
        DataError: they can't be written.
    """
    for index, number in enumerate(batch.numbers):
        try:
            cache.put(str(number), {name: values[:, index] for name, values in taught.items()})
        except NotFiniteError as error:
            logger.warning("sample %d is not kept, and will skip its step: %s", number, error)
        except OSError as error:
            raise DataError(
                f"{cache.folder}: can't be written ({error}); what is there is whole, and the same command goes on"
            ) from error


def _remove_leftovers(place: Path) -> None:
    """Remove what a killed process left half written; another run may be writing here now."""
    for path in place.glob(".*"):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink()


def _digest_of_labels(sequences: Sequence[TrackingSequence]) -> str:
    digest = hashlib.sha256()
    for sequence in sequences:
        digest.update(f"{sequence.name} {len(sequence)}".encode())
        digest.update(np.ascontiguousarray(sequence.boxes, dtype=np.float64).tobytes())
    return digest.hexdigest()


def _bytes(count: float) -> str:
    """Return a number of bytes in the unit that suits it."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count / 1e3:,.1f} kB"
