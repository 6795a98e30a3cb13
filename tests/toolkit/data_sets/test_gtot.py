"""The layout of GTOT."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import FRAMES, NAMES, boxes, gray, gtot, names, write

from mmdistill.toolkit.datasets import open_benchmark
from mmdistill.toolkit.datasets.attributes import UNNAMED


def test_gtot(tmp_path: Path) -> None:
    root = gtot(tmp_path / "GTOT")
    write(root / "SequencesName.txt", "\n".join(NAMES))
    write(root / "sequencesAttr.txt", "1\t0\t0\t0\t0\t0\t1\n" * 3 + "0\t1\t0\t0\t0\t0\t0\n")
    benchmark = open_benchmark("gtot", root)
    assert names(benchmark) == NAMES
    assert benchmark.data_issues.lines() == []
    assert benchmark.coverage.summary == "gtot: 4 of 50 sequences"
    sequence = benchmark.sequences[0]
    np.testing.assert_array_equal(sequence.truths, [boxes(10), boxes(12)])
    np.testing.assert_array_equal(sequence.boxes, boxes(10))
    assert gray(benchmark, "1boy`s", 2) == (40, 45)
    assert {name: flags[0] for name, flags in sequence.attributes.items()} == {
        "OCC": True, "LSV": False, "FM": False, "LI": False, "TC": False, "SO": False, "DEF": True,
    }  # fmt: skip
    assert benchmark.sequences[3].attributes["LSV"].tolist() == [True] * FRAMES


@pytest.mark.parametrize("named", [True, False])
def test_gtots_attributes_with_a_header_and_by_name(tmp_path: Path, named: bool) -> None:
    root = gtot(tmp_path, ["a", "b"])
    rows = ["0\t0\t0\t1\t0\t0\t1", "0\t0\t0\t1\t0\t0\t0"]
    if named:
        rows = [f"b\t{rows[1]}", f"a\t{rows[0]}"]
    write(root / "sequencesAttr.txt", "\r\n".join(["\t".join("ABCDEFG"), *rows]))
    first, second = (
        {key: bool(flags.all()) for key, flags in each.attributes.items()}
        for each in open_benchmark("gtot", root, images=False).sequences
    )
    assert first == {**dict.fromkeys("ABCEF", False), "D": True, "G": True}
    assert second == {**first, "G": False}


EIGHT = ["OCC", "LSV", "FM", "LI", "HI", "TC", "SO", "DEF"]


def flags(root: Path, **options: object) -> dict[str, dict[str, bool]]:
    found = open_benchmark("gtot", root, images=False, **options)  # type: ignore[arg-type]
    return {each.name: {key: bool(value.all()) for key, value in each.attributes.items()} for each in found.sequences}


@pytest.mark.parametrize("first", [["Sequence name"], ["name"], []])
def test_gtots_eight_columns_are_named_by_the_first_row(tmp_path: Path, first: list[str]) -> None:
    root = gtot(tmp_path, ["a b", "1"])
    rows = ["\t".join(["A B", *"01001000"]), "\t".join(["1", *"10000001"])]
    write(root / "sequencesAttr.txt", "\ufeff" + "\r\n".join(["\t".join([*first, *EIGHT]), *rows]) + "\r\n")
    found = flags(root)
    assert found["a b"] == {name: name in ("LSV", "HI") for name in EIGHT}
    assert found["1"] == {name: name in ("OCC", "DEF") for name in EIGHT}


def test_gtots_eight_columns_without_names(tmp_path: Path) -> None:
    root = gtot(tmp_path, ["a", "b"])
    write(root / "sequencesAttr.txt", "a\t0\t1\t0\t0\t1\t0\t0\t0\nb\t1\t0\t0\t0\t0\t0\t0\t1\n")
    assert flags(root)["b"] == {f"attribute {k}": k in (1, 8) for k in range(1, 9)}
    assert f"{UNNAMED}: 1" in open_benchmark("gtot", root, images=False).data_issues.lines()
    assert flags(root, attribute_names=EIGHT)["b"] == {name: name in ("OCC", "DEF") for name in EIGHT}


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ("a\t1\t0\nb\t1\t0\n" + "a\t0\t0\n", "a is listed twice with different flags"),
        ("OCC\tLSV\na\t1\t0\n0\t1\n", "expected a name and flags 0 or 1 in each row, got '0\\t1'"),
        ("OCC\tLSV\n", "expected a row of flags 0 or 1 for each sequence, got none"),
        ("OCC\tLSV\na\t1\t2\n", "expected a name and flags 0 or 1 in each row, got 'a\\t1\\t2'"),
        ("OCC\na\t1\t0\n", "expected a name for each of 2 columns of flags, got 1"),
    ],
)
def test_a_malformed_table_of_attributes_is_a_data_issue(tmp_path: Path, table: str, problem: str) -> None:
    root = gtot(tmp_path, ["a", "b"])
    write(root / "sequencesAttr.txt", table)
    found = open_benchmark("gtot", root, images=False)
    assert not any(each.attributes for each in found.sequences)
    assert problem in "\n".join(found.data_issues.lines())


def test_files_and_folders_in_other_letter_case(tmp_path: Path) -> None:
    root = gtot(tmp_path / "GTOT")
    for name in NAMES:
        (root / name / "groundTruth_v.txt").rename(root / name / "groundTruth_v.TXT")
        (root / name / "groundTruth_i.txt").rename(root / name / "groundtruth_i.txt")
        (root / name / "init.txt").rename(root / name / "INIT.TXT")
        (root / name / "v").rename(root / name / "V")
    benchmark = open_benchmark("gtot", root)
    assert names(benchmark) == NAMES
    np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes(10), boxes(12)])
    assert gray(benchmark, "1boy`s", 2) == (40, 45)
