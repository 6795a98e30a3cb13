"""Batches: their order, their content, and the processes that prepare them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from training_helpers import load_batches

from mmdistill import Pair
from mmdistill.reference.crops import to_tensor
from mmdistill.reference.training.data_loader import REPLACEMENT_OFFSET, BatchLoader, BatchShard, collate
from mmdistill.reference.training.distributed import DistributedContext
from mmdistill.reference.training.sampler import Crops, Sample, Sampler
from mmdistill.reference.training.settings import SampleSettings
from mmdistill.toolkit.data_issues import DataError


class OnOneCore:
    """A sampler that raises an error if OpenCV uses several threads."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def sample(self, number: int) -> Sample:
        if number < REPLACEMENT_OFFSET and cv2.getNumThreads() > 1:
            raise DataError(f"{cv2.getNumThreads()} threads")
        return self.sampler.sample(number)


def test_a_worker_uses_one_core_and_sends_bytes(sampler: Sampler) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        [loaded] = BatchLoader(OnOneCore(sampler), BatchShard(2), workers=1).batches(0, 1)
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert loaded.replaced == []
    assert loaded.batch.train.rgb.dtype == torch.uint8
    torch.testing.assert_close(loaded.batch, collate([sampler.sample(0), sampler.sample(1)]), rtol=0, atol=0)


@pytest.fixture
def _spawn() -> Iterator[None]:
    """Start processes as on Windows and macOS."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("_spawn")
def test_spawned_workers_load_the_same_batches(sampler: Sampler) -> None:
    [loaded] = BatchLoader(sampler, BatchShard(2), workers=1).batches(1, 2)
    torch.testing.assert_close(loaded.batch, collate([sampler.sample(2), sampler.sample(3)]), rtol=0, atol=0)


class LargeCrops:
    """A sampler of large crops, which take a while to send."""

    def __init__(self, sampler: Sampler) -> None:
        self.first = sampler.sample(0)

    def sample(self, number: int) -> Sample:
        del number
        return self.first._replace(train=enlarged(self.first.train), test=enlarged(self.first.test))


def enlarged(crops: Crops) -> Crops:
    images = Pair(*([np.zeros((900, 900, 3), np.uint8) for _ in each] for each in crops.images))
    return crops._replace(images=images)


@pytest.mark.slow
@pytest.mark.usefixtures("_spawn")
def test_closing_ends_spawned_workers_in_good_order(sampler: Sampler, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(4):  # whether the worker sends at its end is chance
        batches = BatchLoader(LargeCrops(sampler), BatchShard(8), workers=1).batches(0, 1000)
        for _ in range(3):
            next(batches)
        workers = multiprocessing.active_children()
        batches.close()
        assert [worker.exitcode for worker in workers] == [0]
    assert capfd.readouterr().err == ""


WORKER = """
import sys
import time
from multiprocessing import get_context

def work(fail):
    from threading import Thread
    import torch
    from mmdistill.reference.training.data_loader import _initialize_worker

    def multiply():
        values = torch.ones(1500, 1500)
        while True:
            values @ values

    torch.set_num_threads(1)
    _initialize_worker(0)
    Thread(target=multiply, daemon=True).start()  # as PyTorch's thread that sends batches
    time.sleep(0.3)
    print("ends")
    if fail:
        raise ValueError("the worker failed")

if __name__ == "__main__":
    worker = get_context("spawn").Process(target=work, args=(sys.argv[1:] == ["fail"],))
    worker.start()
    worker.join()
    sys.exit(3 if worker.exitcode == 0 else worker.exitcode)
"""


def end_of_worker(folder: Path, *arguments: str) -> tuple[int, str, str]:
    (folder / "worker.py").write_text(WORKER)
    root = str(Path(__file__).resolve().parents[3])
    found = subprocess.run(
        [sys.executable, str(folder / "worker.py"), *arguments],
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    return found.returncode, found.stdout, found.stderr


def test_a_worker_ends_while_a_thread_computes(tmp_path: Path) -> None:
    assert end_of_worker(tmp_path) == (3, "ends\n", "")


@pytest.mark.slow
def test_a_worker_that_fails_says_so(tmp_path: Path) -> None:
    status, output, errors = end_of_worker(tmp_path, "fail")
    assert (status not in (0, 3), output) == (True, "ends\n")
    assert "ValueError: the worker failed" in errors


def test_a_system_without_sigchld_loads_the_same_batches(sampler: Sampler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(signal, "SIGCHLD", raising=False)
    [loaded] = BatchLoader(sampler, BatchShard(2)).batches(0, 1)
    torch.testing.assert_close(loaded.batch, collate([sampler.sample(0), sampler.sample(1)]), rtol=0, atol=0)


def test_batches_do_not_depend_on_the_first_step(sampler: Sampler) -> None:
    whole = list(load_batches(sampler, 2, 0, 3))
    rest = list(load_batches(sampler, 2, 1, 3))
    assert len(rest) == 2
    for a, b in zip(whole[1:], rest, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_processes_and_passes_share_all_samples_of_a_step() -> None:
    for passes, count in [(1, 1), (1, 2), (2, 2), (3, 1), (2, 3)]:
        shards = [BatchShard(12, passes, DistributedContext(rank, count)) for rank in range(count)]
        per_step = 12 // count
        for step in range(3):
            drawn = [shard.sample_number(step * per_step + index) for shard in shards for index in range(per_step)]
            assert sorted(drawn) == list(range(12 * step, 12 * step + 12))
    assert [BatchShard(12).sample_number(index) for index in range(30)] == list(range(30))


def test_shapes_of_a_batch(sampler: Sampler) -> None:
    several = Sampler(sampler.sequences, 96, 5.0, SampleSettings(train_frames=2, test_frames=1))
    batch = collate([several.sample(n) for n in range(4)])
    assert batch.train.rgb.shape == batch.train.tir.shape == (2, 4, 3, 96, 96)
    assert batch.test.rgb.shape == (1, 4, 3, 96, 96)
    assert batch.train_boxes.shape == (2, 4, 4)
    assert batch.test_boxes.shape == (1, 4, 4)
    assert batch.proposals.shape == (1, 4, 8, 4)
    assert batch.overlaps.shape == (1, 4, 8)


def test_images_move_as_bytes_and_are_normalized_on_the_device_to_the_same_bits(sampler: Sampler) -> None:
    several = Sampler(sampler.sequences, 96, 5.0, SampleSettings(train_frames=2, test_frames=1))
    samples = [several.sample(n) for n in range(3)]
    batch = collate(samples)
    moved = batch.to(torch.device("cpu"))
    for part in ("train", "test"):
        crops = [getattr(sample, part).images for sample in samples]
        for sent, got, images in zip(getattr(batch, part), getattr(moved, part), zip(*crops, strict=True), strict=True):
            assert sent.dtype == torch.uint8
            expected = torch.stack([to_tensor(each) for each in images], dim=1)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
            assert got.stride() == sent.stride()
    torch.testing.assert_close(moved.to(torch.device("cpu")), moved, rtol=0, atol=0)
