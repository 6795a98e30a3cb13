"""Each layout on a small copy made as the data set lies on disk, with the oddities that real copies have."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mmdistill.reference.data.benchmarks import Benchmark, BenchmarkSequence, open_benchmark
from mmdistill.reference.data.benchmarks.opening import UNUSABLE
from mmdistill.reference.data.benchmarks.sequence import EMPTY_LINES, LOST, OTHER_START, UNEQUAL_TRUTHS
from mmdistill.reference.data.images import write_image
from mmdistill.reference.errors import DataError

NAMES = ["1boy`s", "dog's_[1]", "man 2", "man 10"]  # in natural order
FRAMES = 5


def boxes(first: float = 10) -> np.ndarray:
    return np.array([[first + step, 20, 8, 6] for step in range(FRAMES)], dtype=float)


def lines(values: np.ndarray, separator: str, end: str = "\n") -> str:
    return "".join(separator.join(f"{value:g}" for value in row) + end for row in values)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


def images(folder: Path, names: Sequence[str], level: int = 0) -> None:
    """Write frames whose grey says which they are."""
    for index, name in enumerate(names):
        write_image(folder / name, np.full((48, 64, 3), 20 * (index % 12) + level, np.uint8))


def grey(benchmark: Benchmark, name: str, index: int) -> tuple[int | None, int | None]:
    sequence = next(each for each in benchmark.sequences if each.name == name)
    rgb, tir = sequence.frame(index)
    return tuple(None if image is None else round(image[0, 0, 0]) for image in (rgb, tir))


def names(benchmark: Benchmark) -> list[str]:
    return [sequence.name for sequence in benchmark.sequences]


# ---- GTOT ----------------------------------------------------------------------------------------


def gtot(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "v", [f"{k:05d}_v.png" for k in range(1, FRAMES + 1)])
        images(root / name / "i", [f"{k:05d}_i.bmp" for k in range(1, FRAMES + 1)], level=5)
        for side, first in (("v", 10), ("i", 12)):
            corners = boxes(first)
            corners[:, 2:] += corners[:, :2]
            write(root / name / f"groundTruth_{side}.txt", lines(corners, " "))
        write(root / name / "init.txt", lines(boxes(10), "\t", "\r\n"))
    return root


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


# ---- RGBT234 -------------------------------------------------------------------------------------


def rgbt234(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "visible", [f"{k:05d}v.png" for k in range(1, FRAMES + 1)])
        images(root / name / "infrared", [f"{k:05d}i.png" for k in range(1, FRAMES + 1)], level=5)
        write(root / name / "visible.txt", lines(boxes(10), ",", "\r\n"))
        write(root / name / "infrared.txt", lines(boxes(12), ",", "\r\n"))
        write(root / name / "init.txt", lines(boxes(10), ",", "\r\n"))
    return root


@pytest.mark.parametrize("name", ["rgbt234", "rgbt210"])
def test_rgbt234(tmp_path: Path, name: str) -> None:
    root = rgbt234(tmp_path)
    write(root / "attr_txt" / "SequencesName.txt", "\r\n".join(reversed(NAMES)) + "\r\n")
    write(root / "attr_txt" / "PO.txt", "1\n0\n0\n0\n")
    write(root / "attr_txt" / "TC.txt", "1\n1\n0\n1\n")
    benchmark = open_benchmark(name, root)  # type: ignore[arg-type]
    assert names(benchmark) == NAMES
    assert grey(benchmark, "dog's_[1]", 4) == (80, 85)
    np.testing.assert_array_equal(benchmark.sequences[1].truths, [boxes(10), boxes(12)])
    flags = {each.name: {key: bool(value[0]) for key, value in each.attributes.items()} for each in benchmark.sequences}
    assert flags == {
        "man 10": {"PO": True, "TC": True},
        "man 2": {"PO": False, "TC": True},
        "dog's_[1]": {"PO": False, "TC": False},
        "1boy`s": {"PO": False, "TC": True},
    }


def test_trackers_start_from_init_and_it_is_said_where_it_disagrees(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["afterrain"])
    write(root / "afterrain" / "init.txt", "144,53,24,45\r\n1,2,3,4\r\n")
    benchmark = open_benchmark("rgbt234", root)
    sequence = benchmark.sequences[0]
    assert sequence.boxes[0].tolist() == [144, 53, 24, 45]
    np.testing.assert_array_equal(sequence.boxes[1:], boxes(10)[1:])
    np.testing.assert_array_equal(sequence.truths[0], boxes(10))
    assert benchmark.oddities.lines()[:2] == [
        f"{OTHER_START}: 1",
        "  afterrain: 144,53,24,45; first of visible.txt 10,20,8,6, of infrared.txt 12,20,8,6",
    ]


def test_one_modality_a_frame_shorter(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    (root / "car" / "infrared" / "00005i.png").unlink()
    write(root / "car" / "infrared.txt", lines(boxes(12)[:4], ","))
    benchmark = open_benchmark("rgbt234", root)
    assert len(benchmark.sequences[0]) == FRAMES
    assert grey(benchmark, "car", 3) == (60, 65)
    assert grey(benchmark, "car", 4) == (80, None)
    assert np.isnan(benchmark.sequences[0].truths[1][4]).all()
    assert benchmark.oddities.lines()[:2] == [f"{UNEQUAL_TRUTHS}: 1", "  car: 5 and 4"]


def test_an_image_lost_between_others(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    (root / "car" / "visible" / "00003v.png").unlink()
    benchmark = open_benchmark("rgbt234", root)
    assert [grey(benchmark, "car", index) for index in (1, 2, 3)] == [(20, 25), (None, 45), (60, 65)]
    assert benchmark.oddities.lines()[0] == f"{LOST}: 1"


def test_both_modalities_a_frame_shorter_than_the_boxes(tmp_path: Path) -> None:
    root = rgbt234(tmp_path, ["car"])
    for image in root.glob("car/*/00005*"):
        image.unlink()
    benchmark = open_benchmark("rgbt234", root)
    assert grey(benchmark, "car", 4) == (None, None)
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
    assert benchmark.oddities.lines()[0] == f"{EMPTY_LINES}: 1"


def test_what_can_not_be_used_stops_or_is_left_out(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    (root / "man 10" / "infrared.txt").unlink()
    write(root / "man 2" / "visible.txt", "1,2,3,4\n1,2,three,4\n")
    with pytest.raises(DataError, match=r"man 2/visible\.txt, line 2: expected 4 numbers"):
        open_benchmark("rgbt234", root)
    benchmark = open_benchmark("rgbt234", root, unusable="skip")
    assert names(benchmark) == ["1boy`s", "dog's_[1]"]
    assert benchmark.oddities.lines()[0] == f"{UNUSABLE}: 2"
    assert "man 10/infrared.txt: cannot read the file" in benchmark.oddities.lines()[2]


def test_sequences_that_a_list_has_but_the_copy_has_not(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    write(root / "SequencesName.txt", "\n".join([*NAMES, "soccer"]))
    said = open_benchmark("rgbt234", root, images=False).oddities.lines()
    assert said[:2] == ["sequences that SequencesName.txt lists, but that are not there: 1", "  soccer"]


def test_malformed_attributes_are_said_and_left_out(tmp_path: Path) -> None:
    root = rgbt234(tmp_path)
    write(root / "SequencesName.txt", "\n".join(NAMES))
    write(root / "attr_txt" / "FM.txt", "1\n0\n")
    write(root / "attr_txt" / "LI.txt", "1\n0\nno\n1\n")
    write(root / "attr_txt" / "TC.txt", "1 0 0 1")
    benchmark = open_benchmark("rgbt234", root, images=False)
    assert list(benchmark.sequences[0].attributes) == ["TC"]
    said = "\n".join(benchmark.oddities.lines())
    assert "FM.txt: expected 4 flags, one a sequence, got 2" in said
    assert "LI.txt: expected flags 0 or 1, got 'no'" in said


# ---- LasHeR --------------------------------------------------------------------------------------


def lasher(root: Path, benchmark_names: Sequence[str] = NAMES) -> Path:
    for name in benchmark_names:
        images(root / name / "visible", ["v999.png", *(f"v{k}.png" for k in range(1000, 999 + FRAMES))])
        images(root / name / "infrared", [f"i{k:03d}.png" for k in range(FRAMES)], level=5)
        for file in ("visible", "infrared", "init"):
            write(root / name / f"{file}.txt", lines(boxes(), ","))
    return root


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


@pytest.mark.parametrize("name", ["lasher", "lsotb-tir", "ptb-tir", "vot"])
def test_annotations_alone(tmp_path: Path, name: str) -> None:
    for sequence in NAMES:
        write(tmp_path / "annos" / f"{sequence}.txt", lines(boxes(), ","))
    write(tmp_path / "annos" / "SequencesName.txt", "a\nb\n")
    for place in (tmp_path, tmp_path / "annos"):
        benchmark = open_benchmark(name, place, images=False)  # type: ignore[arg-type]
        assert names(benchmark) == NAMES
        assert benchmark.place == tmp_path / "annos"
        np.testing.assert_array_equal(benchmark.sequences[0].truths, [boxes()])


# ---- VTUAV ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["ir", "ir_gray"])
@pytest.mark.parametrize(("frames", "labels"), [(21, 3), (30, 3), (25, 3), (21, 21), (21, 20)])
def test_vtuav(tmp_path: Path, place: str, frames: int, labels: int) -> None:
    folder = tmp_path / "test" / "bus_001"
    images(folder / "rgb", [f"{k:06d}.png" for k in range(frames)])
    images(folder / place, [f"{k:06d}.png" for k in range(frames)], level=5)
    truth = np.array([[10 + step, 20, 8, 6] for step in range(labels)], dtype=float)
    other = truth + np.array([1, 0, 0, 0])
    write(folder / "rgb.txt", lines(truth, " "))
    write(folder / "ir.txt", lines(other, " "))
    sequence = open_benchmark("vtuav", tmp_path).sequences[0]
    every = 1 if labels >= 20 else 10
    assert len(sequence) == (labels if every == 1 else frames)
    labelled = np.flatnonzero(np.isfinite(sequence.truths[0]).all(axis=1))
    assert labelled.tolist() == [every * k for k in range(labels)]
    np.testing.assert_array_equal(sequence.truths[1][labelled], other)
    if every == 10:
        blind = open_benchmark("vtuav", tmp_path, images=False).sequences[0]
        assert len(blind) == 30
        np.testing.assert_array_equal(blind.truths[0][[0, 10, 20]], truth)


def test_vtuav_with_too_few_boxes(tmp_path: Path) -> None:
    for side in ("rgb", "ir"):
        images(tmp_path / "bus" / side, [f"{k}.png" for k in range(40)])
        write(tmp_path / "bus" / f"{side}.txt", lines(boxes()[:2], " "))
    with pytest.raises(DataError, match=r"rgb\.txt: expected a box for each of 40 frames, or for one of 10, got 2"):
        open_benchmark("vtuav", tmp_path)


# ---- TIR -----------------------------------------------------------------------------------------

TIR = [("lsotb-tir", "sequences", "anno", 4, 16), ("ptb-tir", "tirsequences", "tiranno", 8, 10)]


def tir(root: Path, sequences: str, annotations: str, digits: int, flags: int) -> Path:
    for name in NAMES:
        images(root / sequences / name / "img", [f"{k:0{digits}d}.png" for k in range(1, FRAMES + 1)])
        write(root / annotations / f"{name}.txt", lines(boxes(), ","))
        write(root / annotations / "att" / f"{name}.txt", "\n".join(["1", *["0"] * (flags - 1)]))
    return root


@pytest.mark.parametrize(("name", "sequences", "annotations", "digits", "flags"), TIR)
def test_tir(tmp_path: Path, name: str, sequences: str, annotations: str, digits: int, flags: int) -> None:
    root = tir(tmp_path, sequences, annotations, digits, flags)
    benchmark = open_benchmark(name, root)  # type: ignore[arg-type]
    assert names(benchmark) == NAMES
    assert grey(benchmark, "dog's_[1]", 2) == (None, 40)
    np.testing.assert_array_equal(benchmark.sequences[0].boxes, boxes())
    attributes = benchmark.sequences[0].attributes
    assert list(attributes) == [f"attribute {k}" for k in range(1, flags + 1)]
    assert [bool(each.all()) for each in attributes.values()] == [True] + [False] * (flags - 1)
    blind = open_benchmark(
        name,  # type: ignore[arg-type]
        root / annotations,
        images=False,
        attribute_names=[f"A{k}" for k in range(flags)],
    )
    assert names(blind) == NAMES
    assert next(iter(blind.sequences[0].attributes)) == "A0"


def test_tir_frames_without_annotation_and_annotation_without_frames(tmp_path: Path) -> None:
    root = tir(tmp_path, *TIR[0][1:])
    (root / "anno" / "man 2.txt").unlink()
    for image in (root / "sequences" / "man 10" / "img").iterdir():
        image.unlink()
    benchmark = open_benchmark("lsotb-tir", root, unusable="skip")
    assert names(benchmark) == ["1boy`s", "dog's_[1]"]
    said = "\n".join(benchmark.oddities.lines())
    assert "anno/man 2.txt: cannot read the file" in said
    assert "man 10/img: expected images" in said


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir"])
def test_tir_in_otb_style_folders(tmp_path: Path, name: str) -> None:
    images(tmp_path / "a" / "img", [f"{k}.png" for k in range(FRAMES)])
    write(tmp_path / "a" / "groundtruth_rect.txt", lines(boxes(), ","))
    benchmark = open_benchmark(name, tmp_path)  # type: ignore[arg-type]
    assert grey(benchmark, "a", 1) == (None, 20)


# ---- VOT-style -----------------------------------------------------------------------------------


def test_vot(tmp_path: Path) -> None:
    images(tmp_path / "a", [f"{k:08d}.png" for k in range(1, 6)])
    write(tmp_path / "a" / "groundtruth.txt", "10,20,18,20,18,26,10,26\n" * 5)
    images(tmp_path / "b" / "img", [f"{k:04d}.png" for k in range(1, 6)])
    write(tmp_path / "b" / "groundtruth_rect.txt", lines(boxes(), ","))
    write(tmp_path / "list.txt", "a\nb\n")
    benchmark = open_benchmark("vot", tmp_path, modality="tir")
    assert names(benchmark) == ["a", "b"]
    assert benchmark.sequences[0].boxes[0].tolist() == [10, 20, 8, 6]
    assert grey(benchmark, "b", 1) == (None, 20)
    assert names(open_benchmark("vot", tmp_path / "b")) == ["b"]
    (tmp_path / "b" / "groundtruth_rect.txt").unlink()
    with pytest.raises(DataError, match=r"b: expected a sequence's folder with groundtruth\.txt or"):
        open_benchmark("vot", tmp_path)


# ---- any -----------------------------------------------------------------------------------------


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
