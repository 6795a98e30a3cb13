"""LSOTB-TIR's training layout: tracks in VOC XML."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from benchmark_copies import gray, images, names, write

from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets import open_benchmark
from mmdistill.toolkit.datasets.benchmark_layouts import MAX_XML_CHARACTERS, read_objects

PLACE = "TIR_training_001/person_041"


def xml(*objects: tuple[str | None, float, float, float, float]) -> str:
    written = ""
    for track, left, top, right, bottom in objects:
        number = "" if track is None else f"<trackid>{track}</trackid>"
        box = f"<xmax>{right}</xmax><xmin>{left}</xmin><ymax>{bottom}</ymax><ymin>{top}</ymin>"
        written += f"<object>{number}<bndbox>{box}</bndbox></object>"
    return f"<annotation><filename>x</filename>{written}</annotation>"


def training(root: Path, place: str = PLACE, frames: int = 4, beside: str = "") -> Path:
    images(root / beside / place, [f"{k:08d}.png" for k in range(frames)])
    for k in range(frames):
        write(root / "Annotations" / place / f"{k:08d}.xml", xml(("0", 10 + k, 8, 30 + k, 40)))
    return root


@pytest.mark.parametrize("beside", ["", "TrainingData"])
def test_the_training_layout(tmp_path: Path, beside: str) -> None:
    root = training(tmp_path, beside=beside)
    write(root / "__MACOSX" / "Annotations" / PLACE / "._00000000.xml", "Mac OS X")
    write(root / "Annotations" / PLACE / "._00000000.xml", "Mac OS X")
    (root / "Annotations" / PLACE / "00000002.xml").unlink()
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
    place = root / "Annotations" / "TIR_training_002" / "car_2"
    write(place / "00000000.xml", xml(("3", 1, 2, 3, 4), ("12", 5, 6, 9, 9)))
    write(place / "00000001.xml", xml(("12", 6, 6, 9, 9)))
    write(place / "00000002.xml", xml())
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
def test_what_can_not_be_read_is_named(tmp_path: Path, text: str, problem: str) -> None:
    root = training(tmp_path)
    training(root, "TIR_training_001/car", frames=2)
    broken = root / "Annotations" / PLACE / "00000001.xml"
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
    for image in (root / PLACE).iterdir():
        image.rename(image.with_name(f"x{image.name}"))
    with pytest.raises(DataError, match=r"expected <frame>\.xml for the frames x00000000 \.\.\. x00000003"):
        open_benchmark("lsotb-tir", root, split="train")
