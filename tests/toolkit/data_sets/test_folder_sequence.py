"""Sequence folders in the style of VOT and OTB, and their attributes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmdistill.pair import Pair
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.folder_sequence import (
    NO_SEQUENCE,
    FolderSequence,
    read_attributes,
    read_sequences,
    write_attributes,
    write_sequence,
)
from mmdistill.toolkit.image_files import IGNORED, is_ignored
from mmdistill.toolkit.images import write_image
from mmdistill.toolkit.sequence import Boxes, FramePair


def images(folder: Path, count: int) -> None:
    for index in range(count):
        write_image(folder / f"{index + 1}.png", np.full((6, 8, 3), index, np.uint8))


def sequence_folder(folder: Path, subfolders: dict[str, int], *, boxes: int = 2, name: str = "groundtruth.txt") -> Path:
    for subfolder, count in subfolders.items():
        images(folder / subfolder, count)
    (folder / name).write_text("1,2,3,4\n" * boxes)
    return folder


class Memory:
    """A sequence in memory; a modality can be left out."""

    def __init__(self, sides: tuple[str, ...]) -> None:
        generator = np.random.default_rng(0)
        self.name = "memory"
        self.boxes: Boxes = generator.uniform(0, 9, (4, 4))
        self.boxes[2] = np.nan
        self.attributes = {"occlusion": np.array([False, True, True, False])}
        self.images = {side: generator.integers(0, 256, (4, 9, 7, 3)).astype(np.uint8) for side in sides}

    def __len__(self) -> int:
        return 4

    def frame(self, index: int) -> FramePair:
        return Pair(*(self.images[side][index] if side in self.images else None for side in ("rgb", "tir")))


@pytest.mark.parametrize("subfolders", [("rgb", "tir"), ("visible", "infrared"), ("color", "ir")])
def test_both_modalities(tmp_path: Path, subfolders: tuple[str, str]) -> None:
    folder = sequence_folder(tmp_path / "dog's", dict.fromkeys(subfolders, 11), boxes=11)
    images(folder / subfolders[1], 11)
    write_image(folder / subfolders[1] / "11.png", np.full((6, 8, 3), 99, np.uint8))
    sequence = FolderSequence(folder)
    assert sequence.name == "dog's"
    assert len(sequence) == 11
    assert sequence.attributes == {}
    rgb, tir = sequence.frame(10)
    assert rgb is not None
    assert tir is not None
    assert rgb[0, 0, 0] == 10
    assert tir[0, 0, 0] == 99


@pytest.mark.parametrize("subfolder", ["", "img"])
@pytest.mark.parametrize("modality", ["rgb", "tir"])
def test_one_modality(tmp_path: Path, subfolder: str, modality: str) -> None:
    folder = sequence_folder(tmp_path / "x", {subfolder: 2}, name="groundtruth_rect.txt")
    frame = FolderSequence(folder, modality=modality).frame(1)
    assert getattr(frame, modality)[0, 0, 0] == 1
    assert getattr(frame, "tir" if modality == "rgb" else "rgb") is None


def test_frames_after_the_last_box_have_no_label(tmp_path: Path) -> None:
    boxes = FolderSequence(sequence_folder(tmp_path / "x", {"img": 5}, boxes=2)).boxes
    assert boxes.shape == (5, 4)
    assert boxes[1].tolist() == [1, 2, 3, 4]
    assert np.isnan(boxes[2:]).all()


@pytest.mark.parametrize(
    ("subfolders", "boxes", "message"),
    [
        ({"visible": 2}, 2, r"visible: expected the TIR folder beside it"),
        ({"ir": 2}, 2, r"ir: expected the RGB folder beside it"),
        ({"rgb": 3, "tir": 2}, 2, r"got 3 in .*rgb and 2 in .*tir"),
        ({"img": 2}, 3, r"groundtruth\.txt: expected at most a box for each of 2 frames, got 3"),
        ({}, 2, r"expected images .* the folder has none"),
    ],
)
def test_inconsistent_folders_are_refused(tmp_path: Path, subfolders: dict[str, int], boxes: int, message: str) -> None:
    (tmp_path / "x").mkdir()
    folder = sequence_folder(tmp_path / "x", subfolders, boxes=boxes)
    with pytest.raises(DataError, match=message):
        FolderSequence(folder)


def test_finds_all_sequences_in_natural_order(tmp_path: Path) -> None:
    for name in ("s10", "s9", "s1"):
        sequence_folder(tmp_path / name, {"img": 2})
    (tmp_path / "list.txt").touch()
    assert [sequence.name for sequence in read_sequences(tmp_path)] == ["s1", "s9", "s10"]
    assert [sequence.name for sequence in read_sequences(tmp_path / "s9")] == ["s9"]


def test_a_root_without_sequences_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are none"):
        read_sequences(tmp_path)
    with pytest.raises(DataError, match="there is none"):
        read_sequences(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected a sequence folder with groundtruth\.txt or"):
        read_sequences(tmp_path)


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        *((name, True) for name in ("__MACOSX", ".DS_Store", "._car.txt", "Thumbs.db", "thumbs.DB", "@eaDir")),
        *((name, True) for name in ("lost+found", ".ipynb_checkpoints", "#recycle", "desktop.ini", "a/b/.hidden")),
        *((name, False) for name in ("car", "MACOSX", "thumbs", ".hidden/car", "__MACOSX/car", "recycle")),
    ],
)
def test_hidden_and_system_entries_are_ignored_by_their_last_name(name: str, ignored: bool) -> None:
    assert is_ignored(name) is ignored
    assert is_ignored(Path("/data") / name) is ignored


def test_skipped_folders_are_listed(tmp_path: Path) -> None:
    sequence_folder(tmp_path / "car", {"img": 2})
    for name in ("__MACOSX", "@eaDir", ".ipynb_checkpoints"):
        sequence_folder(tmp_path / name / "car", {"img": 2})
        sequence_folder(tmp_path / name, {"img": 2})
    (tmp_path / "notes" / "figures").mkdir(parents=True)
    (tmp_path / "Thumbs.db").touch()
    data_issues = DataIssues()
    assert [sequence.name for sequence in read_sequences(tmp_path, data_issues=data_issues)] == ["car"]
    listed = ["  .ipynb_checkpoints", "  @eaDir", "  Thumbs.db", "  __MACOSX"]
    assert sorted(data_issues.lines()) == sorted([f"{IGNORED}: 4", *listed, f"{NO_SEQUENCE}: 1", "  notes"])
    images(tmp_path / "man" / "img", 1)  # frames without an annotation are meant as a sequence
    with pytest.raises(DataError, match=r"man: expected a sequence folder with groundtruth\.txt"):
        read_sequences(tmp_path)


@pytest.mark.parametrize("sides", [("rgb", "tir"), ("rgb",), ("tir",)])
def test_written_sequences_are_read_again(tmp_path: Path, sides: tuple[str, ...]) -> None:
    sequence = Memory(sides)
    write_sequence(sequence, tmp_path / "x")
    again = FolderSequence(tmp_path / "x", modality="tir" if sides == ("tir",) else "rgb")
    np.testing.assert_array_equal(again.boxes, sequence.boxes)
    np.testing.assert_array_equal(again.attributes["occlusion"], sequence.attributes["occlusion"])
    assert len(again) == len(sequence)
    for index in range(4):
        for read, written in zip(again.frame(index), sequence.frame(index), strict=True):
            assert (read is None) == (written is None)
            np.testing.assert_array_equal(read, written)


def test_jpeg_is_close_and_nothing_is_overwritten(tmp_path: Path) -> None:
    write_sequence(Memory(("rgb", "tir")), tmp_path / "x", suffix=".jpg")
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == [
        "attributes.json", "groundtruth.txt", "rgb", "tir",
    ]  # fmt: skip
    assert (tmp_path / "x" / "rgb" / "00000004.jpg").is_file()
    with pytest.raises(DataError, match="expected a new or empty folder"):
        write_sequence(Memory(("rgb",)), tmp_path / "x")


def test_real_sequences(real_data: Path) -> None:
    sequences = {sequence.name: sequence for sequence in read_sequences(real_data / "rgb")}
    assert {name: len(sequence) for name, sequence in sequences.items()} == {"bag": 196, "Crossing": 120, "Diving": 231}
    diving = sequences["Diving"].boxes
    assert diving[0].tolist() == [177, 51, 21, 129]
    assert np.flatnonzero(np.isnan(diving[:, 0])).tolist() == list(range(215, 231))
    np.testing.assert_allclose(sequences["bag"].boxes[0], [292.23, 128.36, 145.96, 132.47])
    thermal = {sequence.name: sequence for sequence in read_sequences(real_data / "tir", modality="tir")}
    assert {name: len(sequence) for name, sequence in thermal.items()} == {"airplane": 380, "horse": 348}
    np.testing.assert_allclose(thermal["horse"].boxes[0], [257.53, 159, 55.78, 59.89])
    rgb, tir = thermal["horse"].frame(347)
    assert rgb is None
    assert tir is not None
    assert tir.shape == (256, 324, 3)


def test_attributes_are_written_and_read(tmp_path: Path) -> None:
    attributes = {"occlusion": np.array([True, False, True]), "low light": np.zeros(3, bool)}
    write_attributes(tmp_path / "a.json", attributes)
    again = read_attributes(tmp_path / "a.json", 3)
    assert list(again) == list(attributes)
    for name, flags in attributes.items():
        assert again[name].dtype == bool
        np.testing.assert_array_equal(again[name], flags)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 0]", r"expected a JSON object .*got a list"),
        ('{"fast": [1, 0, 1]}', r"expected 2 flags 0 or 1 for 'fast'"),
        ('{"fast": [1, 2]}', r"expected 2 flags"),
        ('{"fast": 1}', r"expected 2 flags"),
        ('{"fast": [1,\n', r"line 2: not JSON"),
        ('{"fast": ' + "[" * 100_000, r"nested too deep"),
    ],
)
def test_malformed_attributes_are_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json.*{message}"):
        read_attributes(tmp_path / "a.json", 2)
