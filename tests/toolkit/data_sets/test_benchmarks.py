"""Opening any benchmark, and the number of file-system calls it takes."""

from __future__ import annotations

import builtins
import io
import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmark_copies import NAMES, boxes, gtot, lines, names, rgbt234, write

from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.reference.training.sampler import Sampler
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import BenchmarkSequence, open_benchmark
from mmdistill.toolkit.datasets.benchmarks import OTHER_TEXTS


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir", "vot"])
def test_annotations_alone(tmp_path: Path, name: str) -> None:
    for sequence in NAMES:
        write(tmp_path / "annos" / f"{sequence}.txt", lines(boxes(), ","))
    write(tmp_path / "annos" / "SequencesName.txt", "a\nb\n")
    write(tmp_path / "annos" / "train_sequence.txt", "a\nb\n")
    for start in (tmp_path, tmp_path / "annos"):
        benchmark = open_benchmark(name, start, images=False)  # type: ignore[arg-type]
        assert names(benchmark) == NAMES
        assert benchmark.folder == tmp_path / "annos"
        np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes()])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_notes_are_skipped_and_damaged_annotations_refused(tmp_path: Path, encoding: str) -> None:
    notes = {
        "train_sequence": "car\nman 2\n",
        "Attributes_order": "NO, PO, TO, HO",
        "numbers": "1\n2\n3\n",
        "about": "\n\n1. Boxes are x, y, w, h.\n2. Send mail to 2 people.\n",
    }
    for name, text in {**notes, "car": "10,20,8,6\n11,20,8,6\n"}.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding=encoding)
    (tmp_path / "man.TXT").write_text("10 20 8 6\n")
    found = open_benchmark("ptb-tir", tmp_path, images=False)
    assert names(found) == ["car", "man"]
    assert found.coverage.summary == "ptb-tir: 2 of 60 sequences"
    assert found.data_issues.lines()[:5] == [f"{OTHER_TEXTS}: 4", *(f"  {name}.txt" for name in sorted(notes))]
    for damaged in ("", "10,20,8\n", "10,20,8,6,1\n", "10,20,eight,6\n", "x,y,w,h\n10,20,8,6\n", "1 2 3 4\0"):
        (tmp_path / "car.txt").write_text(damaged, encoding=encoding)
        with pytest.raises(DataError, match=r"car\.txt"):
            open_benchmark("ptb-tir", tmp_path, images=False)


def test_a_folder_without_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder with the sequences of gtot, there is none"):
        open_benchmark("gtot", tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"expected the sequences of gtot .*groundTruth_v\.txt.*, there are none"):
        open_benchmark("gtot", tmp_path)


def test_several_folders_with_sequences(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rgbt234(tmp_path / name, ["car"])
    with pytest.raises(DataError, match="2 folders hold sequences of rgbt234, such as one and two; name one"):
        open_benchmark("rgbt234", tmp_path)


def test_a_sequence_can_be_sent_to_another_process(tmp_path: Path) -> None:
    sequence = open_benchmark("gtot", gtot(tmp_path)).sequences[0]
    sequence.frame(0)
    again = pickle.loads(pickle.dumps(sequence))
    assert isinstance(again, BenchmarkSequence)
    np.testing.assert_array_equal(again.boxes, sequence.boxes)
    np.testing.assert_array_equal(again.frame(2).tir, sequence.frame(2).tir)


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
def test_opening_accesses_no_frame(make: Callable[[Path, int], str], tmp_path: Path) -> None:
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
