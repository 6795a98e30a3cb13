"""What holds of every benchmark that is opened."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import NAMES, boxes, gtot, lines, names, rgbt234, write

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import BenchmarkSequence, open_benchmark
from mmdistill.toolkit.datasets.benchmarks import OTHER_TEXTS


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir", "vot"])
def test_annotations_alone(tmp_path: Path, name: str) -> None:
    for sequence in NAMES:
        write(tmp_path / "annos" / f"{sequence}.txt", lines(boxes(), ","))
    write(tmp_path / "annos" / "SequencesName.txt", "a\nb\n")
    write(tmp_path / "annos" / "train_sequence.txt", "a\nb\n")
    for place in (tmp_path, tmp_path / "annos"):
        benchmark = open_benchmark(name, place, images=False)  # type: ignore[arg-type]
        assert names(benchmark) == NAMES
        assert benchmark.folder == tmp_path / "annos"
        np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes()])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_notes_beside_annotations_are_told_from_damaged_annotations(tmp_path: Path, encoding: str) -> None:
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
