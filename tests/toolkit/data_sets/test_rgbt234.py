"""The layout of RGBT234 and RGBT210, complete and with data issues."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import FRAMES, NAMES, boxes, gray, lines, names, rgbt234, write

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import open_benchmark
from mmdistill.toolkit.datasets.benchmark_sequence import (
    EMPTY_LINES,
    MISSING_IMAGES,
    OTHER_INITIAL_BOX,
    UNEQUAL_LENGTHS,
)
from mmdistill.toolkit.datasets.benchmarks import UNUSABLE


@pytest.mark.parametrize("name", ["rgbt234", "rgbt210"])
def test_rgbt234(tmp_path: Path, name: str) -> None:
    root = rgbt234(tmp_path)
    write(root / "attr_txt" / "SequencesName.txt", "\r\n".join(reversed(NAMES)) + "\r\n")
    write(root / "attr_txt" / "PO.txt", "1\n0\n0\n0\n")
    write(root / "attr_txt" / "TC.txt", "1\n1\n0\n1\n")
    benchmark = open_benchmark(name, root)  # type: ignore[arg-type]
    assert names(benchmark) == NAMES
    assert gray(benchmark, "dog's_[1]", 4) == (80, 85)
    np.testing.assert_array_equal(benchmark.sequences[1].truths, [boxes(10), boxes(12)])
    flags = {each.name: {key: bool(value[0]) for key, value in each.attributes.items()} for each in benchmark.sequences}
    assert flags == {
        "man 10": {"PO": True, "TC": True},
        "man 2": {"PO": False, "TC": True},
        "dog's_[1]": {"PO": False, "TC": False},
        "1boy`s": {"PO": False, "TC": True},
    }


def test_trackers_start_from_init_and_differences_are_data_issues(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["afterrain"])
    write(root / "afterrain" / "init.txt", "144,53,24,45\r\n1,2,3,4\r\n")
    benchmark = open_benchmark("rgbt234", root)
    sequence = benchmark.sequences[0]
    assert sequence.boxes[0].tolist() == [144, 53, 24, 45]
    np.testing.assert_array_equal(sequence.boxes[1:], boxes(10)[1:])
    np.testing.assert_array_equal(sequence.truths[0], boxes(10))
    assert benchmark.data_issues.lines()[:2] == [
        f"{OTHER_INITIAL_BOX}: 1",
        "  afterrain: 144,53,24,45; first of visible.txt 10,20,8,6, of infrared.txt 12,20,8,6",
    ]


def test_one_modality_a_frame_shorter(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    (root / "car" / "infrared" / "00005i.png").unlink()
    write(root / "car" / "infrared.txt", lines(boxes(12)[:4], ","))
    benchmark = open_benchmark("rgbt234", root)
    assert len(benchmark.sequences[0]) == FRAMES
    assert gray(benchmark, "car", 3) == (60, 65)
    assert gray(benchmark, "car", 4) == (80, None)
    assert np.isnan(benchmark.sequences[0].truths[1][4]).all()
    assert benchmark.data_issues.lines()[:2] == [f"{UNEQUAL_LENGTHS}: 1", "  car: 5 and 4"]


def test_a_missing_image_between_others(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    (root / "car" / "visible" / "00003v.png").unlink()
    benchmark = open_benchmark("rgbt234", root)
    assert [gray(benchmark, "car", index) for index in (1, 2, 3)] == [(20, 25), (None, 45), (60, 65)]
    assert benchmark.data_issues.lines()[0] == f"{MISSING_IMAGES}: 1"


def test_both_modalities_a_frame_shorter_than_the_boxes(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    for image in root.glob("car/*/00005*"):
        image.unlink()
    benchmark = open_benchmark("rgbt234", root)
    assert gray(benchmark, "car", 4) == (None, None)
    for image in root.glob("car/*/00004*"):
        image.unlink()
    with pytest.raises(DataError, match="sequence car: expected an image for each of 5 boxes, got 3"):
        open_benchmark("rgbt234", root)


def test_line_ends_marks_and_empty_lines(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    write(root / "car" / "visible.txt", "\ufeff" + lines(boxes(10), "\t", "\r\r\n") + "\r\n")
    with_gap = lines(boxes(12), ", ").splitlines()
    with_gap[2] = ""
    write(root / "car" / "infrared.txt", "\r\n".join(with_gap))
    benchmark = open_benchmark("rgbt234", root)
    rgb, tir = benchmark.sequences[0].truths
    np.testing.assert_array_equal(rgb, boxes(10))
    assert np.flatnonzero(np.isnan(tir).all(axis=1)).tolist() == [2]
    assert benchmark.data_issues.lines()[0] == f"{EMPTY_LINES}: 1"


def test_unusable_sequences_stop_or_are_skipped(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    (root / "man 10" / "infrared.txt").unlink()
    write(root / "man 2" / "visible.txt", "1,2,3,4\n1,2,three,4\n")
    with pytest.raises(DataError, match=r"man 2/visible\.txt, line 2: expected 4 numbers"):
        open_benchmark("rgbt234", root)
    benchmark = open_benchmark("rgbt234", root, on_invalid="skip")
    assert names(benchmark) == ["1boy`s", "dog's_[1]"]
    assert benchmark.data_issues.lines()[0] == f"{UNUSABLE}: 2"
    assert "man 10/infrared.txt: cannot read the file" in benchmark.data_issues.lines()[2]


def test_sequences_that_a_list_has_but_the_copy_has_not(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    write(root / "SequencesName.txt", "\n".join([*NAMES, "soccer"]))
    messages = open_benchmark("rgbt234", root, images=False).data_issues.lines()
    assert messages[:2] == ["sequences in SequencesName.txt that are missing: 1", "  soccer"]


def test_malformed_attributes_are_data_issues(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    write(root / "SequencesName.txt", "\n".join(NAMES))
    write(root / "attr_txt" / "FM.txt", "1\n0\n")
    write(root / "attr_txt" / "LI.txt", "1\n0\nno\n1\n")
    write(root / "attr_txt" / "TC.txt", "1 0 0 1")
    benchmark = open_benchmark("rgbt234", root, images=False)
    assert list(benchmark.sequences[0].attributes) == ["TC"]
    messages = "\n".join(benchmark.data_issues.lines())
    assert "FM.txt: expected 4 flags, one per sequence, got 2" in messages
    assert "LI.txt: expected flags 0 or 1, got 'no'" in messages


def test_rgbt210_with_one_ground_truth_in_init(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car", "man"])
    for name in ("car", "man"):
        for file in ("visible.txt", "infrared.txt"):
            (root / name / file).unlink()
    write(root / "readme.txt", "of 2017")
    benchmark = open_benchmark("rgbt210", root)
    np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes(10), boxes(10)])
    np.testing.assert_array_equal(benchmark.sequences[0].boxes, boxes(10))
    assert gray(benchmark, "man", 2) == (40, 45)
    assert benchmark.coverage.summary == "rgbt210: 2 of 210 sequences"
    with pytest.raises(DataError, match=r"car/visible\.txt: cannot read the file"):
        open_benchmark("rgbt234", root)  # has one for each modality
    write(root / "car" / "init.txt", "10,20,8,6\r\n")  # the box to start from alone is no ground truth
    with pytest.raises(DataError, match=r"car/visible\.txt: cannot read the file"):
        open_benchmark("rgbt210", root)


def test_attributes_of_lists_with_other_capitals_repeated_names_and_notes(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["Car", "man"])
    write(root / "attr_txt" / "SequencesName.txt", "\ufeffcar\r\nman\r\nman\r\n")
    write(root / "attr_txt" / "PO.txt", "1\r\n0\r\n0\r\n")
    write(root / "attr_txt" / "TC.txt", "1\r\n0\r\n1\r\n")
    write(root / "attr_txt" / "README.txt", "0 or 1")
    write(root / "attr_txt" / "._PO.txt", "Mac OS X")
    benchmark = open_benchmark("rgbt234", root, images=False)
    flags = {each.name: {key: bool(value[0]) for key, value in each.attributes.items()} for each in benchmark.sequences}
    assert flags == {"Car": {"PO": True}, "man": {"PO": False}}
    messages = "\n".join(benchmark.data_issues.lines())
    assert "TC.txt: sequence man is listed twice with different flags" in messages
    assert "README" not in messages
