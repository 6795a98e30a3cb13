from pathlib import Path

import pytest
import torch

from mmdistill.reference.training.tir_cmd.samples import BoxFiles
from mmdistill.toolkit.data_issues import DataError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "set00" / "V000").mkdir(parents=True)
    (tmp_path / "1.txt").write_text("10 20 30.5 40\n\n1,2,3,4,0.25\r\n5\t6\t7\t8 0.75 traffic light, red\n")
    (tmp_path / "set00" / "V000" / "I00000.txt").write_text("")
    return tmp_path


def test_boxes_scores_and_labels_are_read(folder: Path) -> None:
    boxes, scores, labels = BoxFiles(folder).read("1.png")
    assert boxes.tolist() == [[10, 20, 30.5, 40], [1, 2, 3, 4], [5, 6, 7, 8]]
    assert scores.tolist() == [1, 0.25, 0.75]
    assert labels.tolist() == [0, 0, 0]


def test_an_empty_file_is_an_image_without_any(folder: Path) -> None:
    boxes, scores, labels = BoxFiles(folder).read("set00/V000/I00000.jpg")
    assert boxes.shape == (0, 4)
    assert scores.shape == labels.shape == (0,)


def test_a_detector_of_a_name_finds_its_boxes_in_any_image(folder: Path) -> None:
    boxes, _, _ = BoxFiles(folder).detector("1.jpg")(torch.zeros(3, 50, 60, dtype=torch.uint8))
    assert len(boxes) == 3


@pytest.mark.parametrize("line", ["1 2 3", "a b c d", "1 2 3 4 high", "1 2 nan 4", "1 2 3 inf"])
def test_other_lines_are_named(folder: Path, line: str) -> None:
    (folder / "2.txt").write_text(f"1 2 3 4\n{line}\n")
    with pytest.raises(DataError, match=rf"2\.txt, line 2: expected x y w h \[score \[label\]\], got '{line}'"):
        BoxFiles(folder).read("2.png")


def test_missing_files_and_folders_are_named(folder: Path) -> None:
    with pytest.raises(DataError, match=r"3\.txt: cannot read the file"):
        BoxFiles(folder).read("3.png")
    with pytest.raises(DataError, match="expected a folder of box files, it doesn't exist"):
        BoxFiles(folder / "none")
