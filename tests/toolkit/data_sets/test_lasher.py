"""The layout of LasHeR and its splits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmark_copies import NAMES, boxes, gray, lasher, lines, names, write
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets import Benchmark, open_benchmark
from mmdistill.toolkit.datasets import lasher as lasher_module
from mmdistill.toolkit.datasets.attributes import NO_FILE
from mmdistill.toolkit.datasets.benchmarks import OTHER_TEXTS
from mmdistill.toolkit.datasets.lasher import MISPLACED, OTHER_LIST, OTHER_NAMES, official_test_names
from mmdistill.toolkit.datasets.sequence_search import SequenceFiles
from mmdistill.toolkit.image_files import IGNORED

TEST = official_test_names()
TRAIN = tuple(f"made_{name}_{number}" for number, name in enumerate((*TEST * 3, *TEST)))[:979]


def opened(root: Path, **options: Any) -> Benchmark:
    return open_benchmark("lasher", root, images=False, **options)


def files(folder: Path, sequences: tuple[str, ...]) -> Path:
    for name in sequences:
        write(folder / f"{name}.txt", lines(boxes(), ","))
    return folder


def folders(folder: Path, sequences: tuple[str, ...]) -> Path:
    for name in sequences:
        write(folder / name / "visible.txt", lines(boxes(), ","))
    return folder


def test_lasher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = lasher(tmp_path / "testingset")
    for number, name in enumerate(NAMES):
        flags = [str(int(k == number)) for k in range(19)]
        write(tmp_path / "AttriSeqsTxt" / f"{name}.txt", ",".join(flags) + "\n")
    write(tmp_path / "AttriSeqsTxt" / "man 10.txt", "0,1")
    monkeypatch.chdir(root)
    for start in (tmp_path, root, Path()):
        benchmark = open_benchmark("lasher", start, partial=True)
        assert names(benchmark) == NAMES
        assert len(benchmark.sequences[0].truths) == 1
        assert [gray(benchmark, "man 2", index) for index in (0, 1)] == [(0, 5), (20, 25)]
        flags_of = {each.name: [k for k, v in each.attributes.items() if v.all()] for each in benchmark.sequences}
        assert flags_of == {"1boy`s": ["NO"], "dog's_[1]": ["PO"], "man 2": ["TO"], "man 10": []}
        assert "expected 19 flags, one for each attribute, got 2" in "\n".join(benchmark.data_issues.lines())


def test_parts_of_a_copy_without_official_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lasher(tmp_path / "TrainingSet" / "trainingset", ["a", "b"])
    lasher(tmp_path / "TestingSet" / "testingset", ["c"])
    assert names(open_benchmark("lasher", tmp_path, partial=True)) == ["c"]
    assert names(open_benchmark("lasher", tmp_path, split="train", partial=True)) == ["a", "b"]
    training = tmp_path / "TrainingSet" / "trainingset"
    assert names(open_benchmark("lasher", training, split="all", partial=True)) == ["a", "b"]
    write(tmp_path / "AttriSeqsTxt" / "c.txt", ",".join(["1"] * 19))
    everything = open_benchmark("lasher", tmp_path, split="all", partial=True)
    assert names(everything) == ["a", "b", "c"]
    assert [len(each.attributes) for each in everything.sequences] == [0, 0, 19]
    assert f"{NO_FILE}: 2" in everything.data_issues.lines()
    with pytest.raises(DataError, match=r"expected sequences of lasher \(test\), got a, b"):
        open_benchmark("lasher", tmp_path / "TrainingSet", partial=True)
    monkeypatch.chdir(training)
    assert names(open_benchmark("lasher", ".", split="train", partial=True)) == ["a", "b"]
    with pytest.raises(DataError, match=r"expected sequences of lasher \(test\)"):
        open_benchmark("lasher", ".", partial=True)


def test_parts_by_list_of_a_copy_without_official_names(tmp_path: Path) -> None:
    lasher(tmp_path / "all", ["a", "b d", "c"])
    write(tmp_path / "testingsetList.txt", "\ufeffb d \n")
    write(tmp_path / "trainingsetList.txt", "a\r\nc\r\n")
    test = open_benchmark("lasher", tmp_path, partial=True)
    assert names(test) == ["b d"]
    assert (
        test.coverage.summary
        == "lasher, test split: 1 sequence, none of the official 245; 2 outside the split are not used"
    )
    train = open_benchmark("lasher", tmp_path / "all", split="train", partial=True)
    assert names(train) == ["a", "c"]
    assert train.coverage.missing == ()
    assert names(open_benchmark("lasher", tmp_path, split="all", partial=True)) == ["a", "b d", "c"]


Names = tuple[str, ...]


def one_folder(root: Path, test: Names, train: Names) -> Path:
    return files(root / "annos", (*test, *train))


def toolkit(root: Path, test: Names, train: Names) -> Path:
    """The toolkit's root: one folder of annotations, attributes, the lists, a tracker's results."""
    one_folder(root, test, train)
    for name in test:
        write(root / "AttriSeqsTxt" / f"{name}.txt", ",".join(["1"] * 19))
    write(root / "AttriSeqsTxt" / "Attributes_order.txt", "NO, PO, TO\n")
    write(root / "testingsetList.txt", "\r\n".join(test))
    write(root / "trainingsetList.txt", "\n".join(train))
    files(root / "results" / "mine", ("car", *test[:3]))
    return root


def two_folders(root: Path, test: Names, train: Names) -> Path:
    folders(root / "testingset", test)
    return folders(root / "trainingset", train).parent


def deeper_folders(root: Path, test: Names, train: Names) -> Path:
    folders(root / "TestingSet" / "testingset", test)
    return folders(root / "trainingset", train).parent


def folder_per_sequence(root: Path, test: Names, train: Names) -> Path:
    return folders(root / "annos", (*test, *train))


def two_folders_of_files(root: Path, test: Names, train: Names) -> Path:
    files(root / "annos" / "testingset", test)
    return files(root / "annos" / "trainingset", train).parents[1]


def one_part_beside_all_annotations(root: Path, test: Names, train: Names) -> Path:
    folders(root / "testingset", test)
    return files(root / "annos", (*test, *train)).parent


PLACES = [
    *(one_folder, toolkit, two_folders, deeper_folders),
    *(folder_per_sequence, two_folders_of_files, one_part_beside_all_annotations),
]


def check_splits(root: Path, test: Names, train: Names) -> None:
    for split, expected in (("test", test), ("train", train), ("all", test + train)):
        found = opened(root, split=split)
        assert sorted(names(found)) == sorted(expected)
        assert (
            f"split{'s' * (split == 'all')}: {len(expected):,} of {len(expected):,} sequences" in found.coverage.summary
        )
        assert found.coverage.complete


@pytest.mark.parametrize("make", PLACES)
def test_the_official_list_defines_the_split_in_any_folder(
    make: Callable[[Path, Names, Names], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test, train = TEST[:4], TRAIN[:7]
    monkeypatch.setattr(lasher_module, "official_test_names", lambda: test)
    for split, count in (("test", 4), ("train", 7), ("all", 11)):
        monkeypatch.setitem(lasher_module.COUNTS, split, count)
    check_splits(make(tmp_path, test, train), test, train)


def test_the_toolkits_folder_of_all_1224_sequences(tmp_path: Path) -> None:
    root = toolkit(tmp_path, TEST, TRAIN)
    check_splits(root, TEST, TRAIN)
    test = opened(root / "testingsetList.txt")
    assert sorted(names(test)) == sorted(TEST)
    assert all(len(each.attributes) == 19 for each in test.sequences)
    assert not test.data_issues.lines()


@pytest.mark.parametrize("split", ["test", "train", "all"])
def test_a_copy_of_other_sequences_than_the_split_is_refused_unless_asked_for(tmp_path: Path, split: str) -> None:
    files(tmp_path, (*TEST[1:3], *TRAIN[:5]))
    used = {"test": 2, "train": 5, "all": 7}[split]
    official = {"test": "245", "train": "979", "all": "1,224"}[split]
    with pytest.raises(DataError, match=rf"lasher, {split} splits?: {used} of {official} sequences.*--partial"):
        opened(tmp_path, split=split)
    found = opened(tmp_path, split=split, partial=True)
    assert len(found.sequences) == found.coverage.used == used
    assert not found.coverage.complete
    if split != "train":  # nobody knows the names of the missing ones
        assert set(found.coverage.missing) == set(TEST) - set(TEST[1:3])


def test_one_sequence_too_many_for_training_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(lasher_module.COUNTS, "train", 5)
    files(tmp_path, (*TRAIN[:5], "another"))
    with pytest.raises(DataError, match="train split: 6 sequences, the official count is 5"):
        opened(tmp_path, split="train")


def test_no_official_test_sequence_is_trained_on(tmp_path: Path) -> None:
    folders(tmp_path / "trainingset", (*TEST[:2], *TRAIN[:3]))
    folders(tmp_path / "testingset", (TEST[2], "extra"))
    train = opened(tmp_path, split="train", partial=True)
    assert sorted(names(train)) == sorted(TRAIN[:3])
    test = opened(tmp_path, partial=True)
    assert sorted(names(test)) == sorted(TEST[:3])
    assert f"{MISPLACED}: 1" in test.data_issues.lines()


def test_names_that_differ_in_case_or_quotes_are_the_official_ones(tmp_path: Path) -> None:
    quoted = next(name for name in TEST if "`" in name)
    files(tmp_path, (quoted.replace("`", "'").upper(), *(name for name in TEST if name != quoted)))
    found = opened(tmp_path)
    assert found.coverage.complete
    assert f"{OTHER_NAMES}: 1" in found.data_issues.lines()
    files(tmp_path, (quoted,))  # now the other one is another sequence
    assert quoted.replace("`", "'").upper() not in names(opened(tmp_path))


def test_the_copys_own_list_never_makes_the_test_split(tmp_path: Path) -> None:
    files(tmp_path / "annos", (*TEST, *TRAIN[:3]))
    write(tmp_path / "testingsetList.txt", "\n".join((*TEST[:-1], TRAIN[0], TRAIN[0])))
    found = opened(tmp_path)
    assert sorted(names(found)) == sorted(TEST)
    messages = "\n".join(found.data_issues.lines())
    assert f"{OTHER_LIST}: 2\n" in messages
    assert f"testingsetList.txt: {TRAIN[0]}" in messages


def test_other_files_and_folders_are_skipped_and_listed(tmp_path: Path) -> None:
    files(tmp_path / "annos", TEST)
    write(tmp_path / "annos" / "Attributes_order.txt", "NO, PO, TO, HO\n")
    write(tmp_path / "annos" / "train_sequence.txt", "\n".join(TRAIN[:4]))
    write(tmp_path / "annos" / "ReadMe.txt", "1. All boxes are x y w h\n")
    write(tmp_path / "annos" / "._car.txt", "Mac OS X")
    files(tmp_path / "__MACOSX" / "annos", TEST[:2])
    write(tmp_path / "__MACOSX" / "testingsetList.txt", "car")
    found = opened(tmp_path)
    assert sorted(names(found)) == sorted(TEST)
    assert found.data_issues.lines() == [
        *(f"{IGNORED}: 2", "  __MACOSX", "  ._car.txt"),
        *(f"{OTHER_TEXTS}: 2", "  Attributes_order.txt", "  train_sequence.txt"),
    ]
    write(tmp_path / "annos" / f"{TEST[5]}.txt", "x y w h\n1,2,three,4\n")  # damaged, not a note
    with pytest.raises(DataError, match=rf"{TEST[5]}\.txt, line 1: expected 4 numbers"):
        opened(tmp_path)


def test_two_sequences_of_one_name(tmp_path: Path) -> None:
    folders(tmp_path / "testingset", TEST)
    folders(tmp_path / "trainingset", TEST[:1])
    with pytest.raises(DataError, match=rf"sequence {TEST[0]} is there twice, in .*testingset.* and .*trainingset"):
        opened(tmp_path)
    shutil.rmtree(tmp_path / "trainingset")
    lasher(tmp_path / "trainingset", [TEST[0]])  # with images, which the other one lacks
    assert opened(tmp_path).coverage.complete


def test_images_and_annotations_in_folders_apart(tmp_path: Path) -> None:
    root = lasher(tmp_path / "testingset", list(TEST[:2]))
    for name in TEST[:2]:
        (root / name / "visible.txt").unlink()
        (root / name / "infrared.txt").unlink()
        (root / name / "init.txt").unlink()
    files(tmp_path / "annos", TEST)
    found = open_benchmark("lasher", tmp_path, partial=True)
    assert sorted(names(found)) == sorted(TEST[:2])
    assert gray(found, TEST[0], 1) == (20, 25)


@given(
    here=st.sets(st.integers(0, len(TEST) - 1)),
    others=st.lists(st.sampled_from(TRAIN[:40]), unique=True),
    folder=st.sampled_from(["annos", "testingset", "trainingset"]),
    listed=st.booleans(),
)
def test_splits_are_disjoint_and_complete_with_an_official_name(
    tmp_path_factory: pytest.TempPathFactory, here: set[int], others: list[str], folder: str, listed: bool
) -> None:
    root = tmp_path_factory.mktemp("copy")
    if listed:
        write(root / "trainingsetList.txt", "\n".join([*others, *TEST[:5]]))
    test = {TEST[0], *(TEST[number] for number in here)}
    found = [SequenceFiles(name, (root / folder / f"{name}.txt",), Pair(None, None)) for name in (*others, *test)]
    select = {split: lasher_module.lasher_layout(split).select for split in ("test", "train", "all")}
    chosen = {
        split: choose((root, found), root, DataIssues()) for split, choose in select.items() if choose is not None
    }
    names_of = {split: {each.name for each in files} for split, (files, _) in chosen.items()}
    assert names_of["test"] == test
    assert names_of["train"] == (set() if folder == "testingset" and not listed else set(others))
    assert names_of["all"] == test | set(others)
    for files_used, coverage in chosen.values():
        assert coverage.used == len(files_used) == len(found) - len(coverage.outside_split)
    assert set(chosen["test"][1].missing) == set(TEST) - test
