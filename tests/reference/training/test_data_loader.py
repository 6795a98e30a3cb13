"""What workers do to the processes beside them."""

from __future__ import annotations

import cv2
import torch

from mmdistill.reference.training.data_loader import BEYOND, Loader, Share, collate
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Sample, Sampler
from mmdistill.reference.training.settings import TrainingSettings
from mmdistill.toolkit.data_issues import DataError


class OnOneCore:
    """A sampler that refuses to work where OpenCV would start threads."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def sample(self, number: int) -> Sample:
        if number < BEYOND and cv2.getNumThreads() > 1:
            raise DataError(f"{cv2.getNumThreads()} threads")
        return self.sampler.sample(number)


def test_a_worker_keeps_to_one_core_and_sends_bytes(sampler: Sampler) -> None:
    share = Share.of(TrainingSettings(batch_size=2), DistributedContext.current())
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        [loaded] = Loader(OnOneCore(sampler), share, workers=1).batches(0, 1)  # type: ignore[arg-type]
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert loaded.replaced == []
    assert loaded.batch.train.rgb.dtype == torch.uint8
    torch.testing.assert_close(loaded.batch, collate([sampler.sample(0), sampler.sample(1)]), rtol=0, atol=0)
