"""What holds of every benchmark that is opened."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import NAMES, boxes, gtot, lines, names, rgbt234, write

from mmdistill.reference.data.benchmarks import BenchmarkSequence, open_benchmark
from mmdistill.reference.errors import DataError


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir", "vot"])
def test_annotations_alone(tmp_path: Path, name: str) -> None:
    for sequence in NAMES:
        write(tmp_path / "annos" / f"{sequence}.txt", lines(boxes(), ","))
    write(tmp_path / "annos" / "SequencesName.txt", "a\nb\n")
    write(tmp_path / "annos" / "train_sequence.txt", "a\nb\n")
    for place in (tmp_path, tmp_path / "annos"):
        benchmark = open_benchmark(name, place, images=False)  # type: ignore[arg-type]
        assert names(benchmark) == NAMES
        assert benchmark.place == tmp_path / "annos"
        np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes()])


def test_a_folder_without_the_benchmark(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder with the sequences of gtot, there is none"):
        open_benchmark("gtot", tmp_path / "nowhere")
    with pytest.raises(DataError, match="expected the sequences of gtot or their annotations, there are none"):
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
