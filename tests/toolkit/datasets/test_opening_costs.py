"""What opening a data set asks of the file system: as much for a folder of ten thousand frames as for one of ten."""

from __future__ import annotations

import builtins
import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.reference.training.sampler import Sampler

SEQUENCES = 3


def lasher(root: Path, frames: int) -> str:
    for number in range(SEQUENCES):
        folder = root / "trainingset" / f"sequence{number}"
        for side in ("visible", "infrared"):
            (folder / side).mkdir(parents=True)
            for frame in range(frames):
                (folder / side / f"{side[0]}{frame:06d}.jpg").touch()
            (folder / f"{side}.txt").write_text("10,20,30,40\n" * frames)
        (folder / "init.txt").write_text("10,20,30,40\n")
    return f"lasher:{root}"


def folders(root: Path, frames: int) -> str:
    for number in range(SEQUENCES):
        for side in ("rgb", "tir"):
            (root / f"sequence{number}" / side).mkdir(parents=True)
            for frame in range(frames):
                (root / f"sequence{number}" / side / f"{frame}.jpg").touch()
        (root / f"sequence{number}" / "groundtruth.txt").write_text("10,20,30,40\n" * frames)
    return str(root)


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count the calls that look at files."""
    counts: Counter[str] = Counter()

    def counting(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted_call(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return call(*arguments, **options)

        return counted_call

    with pytest.MonkeyPatch.context() as patch:
        for name in ("stat", "lstat", "listdir", "scandir", "open", "readlink"):
            patch.setattr(os, name, counting(name, getattr(os, name)))
        for module in (builtins, io):
            patch.setattr(module, "open", counting("open", io.open))
        yield counts


@pytest.mark.parametrize("make", [lasher, folders])
def test_no_frame_is_looked_at(make: Callable[[Path, int], str], tmp_path: Path) -> None:
    found = []
    for frames in (10, 1000):
        data = make(tmp_path / str(frames), frames)
        with counted() as counts:
            sequences = training_sequences(data, count=1, seed=0)
            Sampler(sequences, 288, 5.0)
        assert [len(each) for each in sequences] == [frames] * SEQUENCES
        found.append(counts)
    assert found[0] == found[1]
    assert found[0]["open"] >= SEQUENCES  # the counters count
    assert found[0]["stat"] >= SEQUENCES
    assert found[0].total() <= 30 * SEQUENCES + 40
