"""LasHeR's layout and its parts."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmark_copies import NAMES, grey, lasher, names, write

from mmdistill.reference.data.benchmarks import open_benchmark
from mmdistill.reference.errors import DataError


def test_lasher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lasher(tmp_path / "testingset")
    for number, name in enumerate(NAMES):
        flags = [str(int(k == number)) for k in range(19)]
        write(tmp_path / "AttriSeqsTxt" / f"{name}.txt", ",".join(flags) + "\n")
    write(tmp_path / "AttriSeqsTxt" / "man 10.txt", "0,1")
    monkeypatch.chdir(root)
    for place in (tmp_path, root, Path()):
        benchmark = open_benchmark("lasher", place)
        assert names(benchmark) == NAMES
        assert len(benchmark.sequences[0].truths) == 1
        assert [grey(benchmark, "man 2", index) for index in (0, 1)] == [(0, 5), (20, 25)]
        flags_of = {each.name: [k for k, v in each.attributes.items() if v.all()] for each in benchmark.sequences}
        assert flags_of == {"1boy`s": ["NO"], "dog's_[1]": ["PO"], "man 2": ["TO"], "man 10": []}
        assert "expected 19 flags, one for each attribute, got 2" in "\n".join(benchmark.oddities.lines())


def test_lashers_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lasher(tmp_path / "TrainingSet" / "trainingset", ["a", "b"])
    lasher(tmp_path / "TestingSet" / "testingset", ["c"])
    assert names(open_benchmark("lasher", tmp_path)) == ["c"]
    assert names(open_benchmark("lasher", tmp_path, split="train")) == ["a", "b"]
    assert names(open_benchmark("lasher", tmp_path / "TrainingSet" / "trainingset", split="all")) == ["a", "b"]
    write(tmp_path / "AttriSeqsTxt" / "c.txt", ",".join(["1"] * 19))
    everything = open_benchmark("lasher", tmp_path, split="all")
    assert names(everything) == ["a", "b", "c"]
    assert [len(each.attributes) for each in everything.sequences] == [0, 0, 19]
    with pytest.raises(DataError, match=r"expected the sequences of lasher \(test\)"):
        open_benchmark("lasher", tmp_path / "TrainingSet")
    monkeypatch.chdir(tmp_path / "TrainingSet" / "trainingset")
    assert names(open_benchmark("lasher", ".", split="train")) == ["a", "b"]
    with pytest.raises(DataError, match=r"expected the sequences of lasher \(test\)"):
        open_benchmark("lasher", ".")


def test_lashers_parts_by_list(tmp_path: Path) -> None:
    lasher(tmp_path / "all", ["a", "b d", "c"])
    write(tmp_path / "testingsetList.txt", "b d \n")
    write(tmp_path / "trainingsetList.txt", "a\r\nc\r\n")
    assert names(open_benchmark("lasher", tmp_path)) == ["b d"]
    assert names(open_benchmark("lasher", tmp_path / "all", split="train")) == ["a", "c"]
    assert names(open_benchmark("lasher", tmp_path, split="all")) == ["a", "b d", "c"]
