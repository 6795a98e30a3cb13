"""Layouts of VOT-style folders, VTUAV, LSOTB-TIR and PTB-TIR."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import FRAMES, NAMES, boxes, gray, images, lines, names, write

from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import open_benchmark
from mmdistill.toolkit.datasets.benchmark_layouts import MAX_XML_CHARACTERS, read_objects


def test_vot(tmp_path: Path) -> None:
    images(tmp_path / "a", [f"{k:08d}.png" for k in range(1, 6)])
    write(tmp_path / "a" / "groundtruth.txt", "10,20,18,20,18,26,10,26\n" * 5)
    images(tmp_path / "b" / "img", [f"{k:04d}.png" for k in range(1, 6)])
    write(tmp_path / "b" / "groundtruth_rect.txt", lines(boxes(), ","))
    write(tmp_path / "list.txt", "a\nb\n")
    benchmark = open_benchmark("vot", tmp_path, modality="tir")
    assert names(benchmark) == ["a", "b"]
    assert benchmark.sequences[0].boxes[0].tolist() == [10, 20, 8, 6]
    assert gray(benchmark, "b", 1) == (None, 20)
    assert names(open_benchmark("vot", tmp_path / "b")) == ["b"]
    (tmp_path / "b" / "groundtruth_rect.txt").unlink()
    with pytest.raises(DataError, match=r"b: expected a sequence folder with groundtruth\.txt or"):
        open_benchmark("vot", tmp_path)


@pytest.mark.parametrize("subfolder", ["ir", "ir_gray"])
@pytest.mark.parametrize(("frames", "labels"), [(21, 3), (30, 3), (25, 3), (21, 21), (21, 20)])
def test_vtuav(tmp_path: Path, subfolder: str, frames: int, labels: int) -> None:
    folder = tmp_path / "test" / "bus_001"
    images(folder / "rgb", [f"{k:06d}.png" for k in range(frames)])
    images(folder / subfolder, [f"{k:06d}.png" for k in range(frames)], level=5)
    truth = np.array([[10 + step, 20, 8, 6] for step in range(labels)], dtype=float)
    other = truth + np.array([1, 0, 0, 0])
    write(folder / "rgb.txt", lines(truth, " "))
    write(folder / "ir.txt", lines(other, " "))
    sequence = open_benchmark("vtuav", tmp_path).sequences[0]
    every = 1 if labels >= 20 else 10
    assert len(sequence) == (labels if every == 1 else frames)
    labeled = np.flatnonzero(np.isfinite(sequence.truths[0]).all(axis=1))
    assert labeled.tolist() == [every * k for k in range(labels)]
    np.testing.assert_array_equal(sequence.truths[1][labeled], other)
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
    assert gray(benchmark, "dog's_[1]", 2) == (None, 40)
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
    benchmark = open_benchmark("lsotb-tir", root, on_invalid="skip")
    assert names(benchmark) == ["1boy`s", "dog's_[1]"]
    messages = "\n".join(benchmark.data_issues.lines())
    assert "anno/man 2.txt: cannot read the file" in messages
    assert "man 10/img: expected images" in messages


@pytest.mark.parametrize("name", ["lsotb-tir", "ptb-tir"])
def test_tir_in_otb_style_folders(tmp_path: Path, name: str) -> None:
    images(tmp_path / "a" / "img", [f"{k}.png" for k in range(FRAMES)])
    write(tmp_path / "a" / "groundtruth_rect.txt", lines(boxes(), ","))
    benchmark = open_benchmark(name, tmp_path)  # type: ignore[arg-type]
    assert gray(benchmark, "a", 1) == (None, 20)


SUBFOLDER = "TIR_training_001/person_041"


def xml(*objects: tuple[str | None, float, float, float, float]) -> str:
    written = ""
    for track, left, top, right, bottom in objects:
        number = "" if track is None else f"<trackid>{track}</trackid>"
        box = f"<xmax>{right}</xmax><xmin>{left}</xmin><ymax>{bottom}</ymax><ymin>{top}</ymin>"
        written += f"<object>{number}<bndbox>{box}</bndbox></object>"
    return f"<annotation><filename>x</filename>{written}</annotation>"


def training(root: Path, subfolder: str = SUBFOLDER, frames: int = 4, beside: str = "") -> Path:
    images(root / beside / subfolder, [f"{k:08d}.png" for k in range(frames)])
    for k in range(frames):
        write(root / "Annotations" / subfolder / f"{k:08d}.xml", xml(("0", 10 + k, 8, 30 + k, 40)))
    return root


@pytest.mark.parametrize("beside", ["", "TrainingData"])
def test_the_training_layout(tmp_path: Path, beside: str) -> None:
    root = training(tmp_path, beside=beside)
    write(root / "__MACOSX" / "Annotations" / SUBFOLDER / "._00000000.xml", "Mac OS X")
    write(root / "Annotations" / SUBFOLDER / "._00000000.xml", "Mac OS X")
    (root / "Annotations" / SUBFOLDER / "00000002.xml").unlink()
    found = open_benchmark("lsotb-tir", root, split="train")
    assert names(found) == ["person_041"]
    expected = np.array([[10.0 + k, 8, 20, 32] for k in range(4)])
    expected[2] = np.nan
    np.testing.assert_array_equal(found.sequences[0].boxes, expected)
    assert gray(found, "person_041", 3) == (None, 60)
    [again] = pickle.loads(pickle.dumps(training_sequences(f"lsotb-tir:{root}", count=0, seed=0)))
    np.testing.assert_array_equal(again.boxes, expected)
    with pytest.raises(DataError, match="expected the sequences of lsotb-tir"):
        open_benchmark("lsotb-tir", root)  # not for testing


def test_several_tracks_and_sets_with_the_same_names(tmp_path: Path) -> None:
    root = training(tmp_path)
    training(root, "TIR_training_002/person_041", frames=2)
    training(root, "TIR_training_002/car_2", frames=3)
    subfolder = root / "Annotations" / "TIR_training_002" / "car_2"
    write(subfolder / "00000000.xml", xml(("3", 1, 2, 3, 4), ("12", 5, 6, 9, 9)))
    write(subfolder / "00000001.xml", xml(("12", 6, 6, 9, 9)))
    write(subfolder / "00000002.xml", xml())
    found = open_benchmark("lsotb-tir", root, split="train")
    assert names(found) == ["TIR_training_001_person_041", "TIR_training_002_person_041", "car_2_3", "car_2_12"]
    nothing = [np.nan] * 4
    np.testing.assert_array_equal(found.sequences[2].boxes, [[1, 2, 2, 2], nothing, nothing])
    np.testing.assert_array_equal(found.sequences[3].boxes, [[5, 6, 4, 3], [6, 6, 3, 3], nothing])


BOMB = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (BOMB, "expected plain XML, got a document type declaration"),
        ("<annotation><object>", "not XML"),
        ("", "not XML"),
        (xml(("0", 10, 8, 5, 40)), "expected a box with xmin <= xmax .*xmin '10', .*xmax '5'"),
        (xml(("0", 10, 8, float("nan"), 40)), "expected a box with xmin <= xmax"),
        (xml(("0", 10, 8, float("inf"), 40)), "expected a box with xmin <= xmax"),
        (xml((None, 1, 2, 3, 4), (None, 1, 2, 3, 4)), "expected a trackid .* got none in one of 2 objects"),
        (xml(("1", 1, 2, 3, 4), ("1", 1, 2, 3, 4)), "expected a trackid .* got trackid 1 twice"),
        (xml(("../x", 1, 2, 3, 4)), "expected a number as trackid, got '../x'"),
        ("<annotation><object/></annotation>", "expected a box"),
        ("<a>" + " " * MAX_XML_CHARACTERS + "</a>", "expected the XML file of a frame, got"),
    ],
)
def test_malformed_xml_is_named(tmp_path: Path, text: str, problem: str) -> None:
    root = training(tmp_path)
    training(root, "TIR_training_001/car", frames=2)
    broken = root / "Annotations" / SUBFOLDER / "00000001.xml"
    write(broken, text)
    with pytest.raises(DataError, match=rf"person_041/00000001\.xml: {problem}"):
        open_benchmark("lsotb-tir", root, split="train")
    assert names(open_benchmark("lsotb-tir", root, split="train", on_invalid="skip")) == ["car"]


def test_xml_in_another_encoding_can_not_hide_entities(tmp_path: Path) -> None:
    path = tmp_path / "0.xml"
    path.write_bytes(BOMB.replace("?>", ' encoding="utf-16"?>', 1).encode("utf-16"))
    with pytest.raises(DataError, match=r"0\.xml: "):
        read_objects(path)
    path.write_bytes(b'<?xml version="1.0" encoding="utf-7"?>+ADwAIQ-DOCTYPE')
    with pytest.raises(DataError, match=r"0\.xml: "):
        read_objects(path)


def test_files_of_other_frames(tmp_path: Path) -> None:
    root = training(tmp_path)
    for image in (root / SUBFOLDER).iterdir():
        image.rename(image.with_name(f"x{image.name}"))
    with pytest.raises(DataError, match=r"expected <frame>\.xml for the frames x00000000 \.\.\. x00000003"):
        open_benchmark("lsotb-tir", root, split="train")
