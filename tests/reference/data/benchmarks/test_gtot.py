"""GTOT's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import FRAMES, NAMES, boxes, grey, gtot, names, write

from mmdistill.reference.data.benchmarks import open_benchmark


def test_gtot(tmp_path: Path) -> None:
    root = gtot(tmp_path / "GTOT")
    write(root / "SequencesName.txt", "\n".join(NAMES))
    write(root / "sequencesAttr.txt", "1\t0\t0\t0\t0\t0\t1\n" * 3 + "0\t1\t0\t0\t0\t0\t0\n")
    benchmark = open_benchmark("gtot", root)
    assert names(benchmark) == NAMES
    assert benchmark.oddities.lines() == ["gtot has 50 sequences, 4 are used"]
    sequence = benchmark.sequences[0]
    np.testing.assert_array_equal(sequence.truths, [boxes(10), boxes(12)])
    np.testing.assert_array_equal(sequence.boxes, boxes(10))
    assert grey(benchmark, "1boy`s", 2) == (40, 45)
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
