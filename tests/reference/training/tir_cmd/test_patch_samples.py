"""Patches of unlabeled pairs, and boxes of a detector from files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mmdistill import Pair
from mmdistill.reference.training.sampler import Sampler
from mmdistill.reference.training.settings import Jitter, SampleSettings
from mmdistill.reference.training.tir_cmd.samples import BoxFiles, patch_sequences
from mmdistill.tir_cmd import CenterArea, RandomSampling
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.images import write_image

STILL = Jitter(0.0, 0.0)
PLAIN = SampleSettings(train_frames=1, test_frames=1, gray=0.0, brightness=0.0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Five noisy pairs of 96 x 64, TIR the inverse of RGB."""
    generator = np.random.default_rng(0)
    for number in range(5):
        image = np.repeat(generator.integers(0, 256, (64, 96, 1), dtype=np.uint8), 3, axis=2)
        write_image(tmp_path / "rgb" / f"{number}.png", image)
        write_image(tmp_path / "tir" / f"{number}.png", 255 - image)
    return tmp_path


def opened(root: Path) -> Pairs:
    return open_pairs(root, on_broken="skip")


def test_every_patch_is_a_sequence_of_one_frame(root: Path) -> None:
    patches = patch_sequences(opened(root), lambda _: RandomSampling(count=3))
    assert (patches.used, len(patches.sequences), patches.skipped) == (5, 15, [])
    for number, sequence in enumerate(patches.sequences):
        assert len(sequence) == len(sequence.boxes) == 1
        assert sequence.name == f"{number // 3}.png"
        rgb, tir = sequence.frame(0)
        assert rgb is not None
        assert tir is not None
        assert rgb.shape == (64, 96, 3)
        np.testing.assert_array_equal(tir, 255 - rgb)
        x, y, w, h = sequence.boxes[0]
        assert x >= 0
        assert y >= 0
        assert x + w <= 96
        assert y + h <= 64
    with pytest.raises(IndexError):
        patches.sequences[0].frame(1)


def test_random_patches_are_the_same_for_a_seed_and_differ_between_pairs(root: Path) -> None:
    def boxes(seed: int) -> np.ndarray:
        patches = patch_sequences(opened(root), lambda _: RandomSampling(count=2), seed=seed)
        return np.concatenate([sequence.boxes for sequence in patches.sequences])

    np.testing.assert_array_equal(boxes(0), boxes(0))
    assert len(np.unique(np.concatenate([boxes(0), boxes(1)]), axis=0)) == 20


def test_both_modalities_are_cut_alike_and_each_branch_by_itself(root: Path) -> None:
    sampler = Sampler(patch_sequences(opened(root), lambda _: CenterArea()).sequences, 64, 5.0, PLAIN)
    offsets = []
    for number in range(8):
        sample = sampler.sample(number)
        for crops in (sample.train, sample.test):
            np.testing.assert_allclose(crops.images.rgb[0], 255.0 - crops.images.tir[0], atol=1)  # resizing rounds
        offsets.append(sample.train.boxes[0] - sample.test.boxes[0])
    assert np.abs(offsets).min() > 0


def test_what_cannot_be_used_is_skipped_and_counted(root: Path) -> None:
    write_image(root / "rgb" / "5.png", np.zeros((64, 96, 3), np.uint8))  # no partner
    write_image(root / "tir" / "1.png", np.zeros((8, 12, 3), np.uint8))  # too small
    broken = root / "rgb" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-100])

    class Sometimes:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, pair: Pair[Tensor], generator: torch.Generator | None = None) -> Tensor:
            boxes = CenterArea()(pair, generator)
            return boxes[:0] if self.name == "4.png" else boxes

    patches = patch_sequences(opened(root), Sometimes)
    assert [sequence.name for sequence in patches.sequences] == ["0.png", "2.png"]
    reasons = "\n".join(patches.skipped)
    assert len(patches.skipped) == 4
    for reason in (
        f"{root}/rgb/5.png: expected a TIR image of the same name",
        "1.png: expected an image of at least 9 x 9 pixels, got 12 x 8",
        "3.png: the image is cut off",
        f"{root}/rgb/4.png: no patch found",
    ):
        assert reason in reasons
    lines = str(patches).splitlines()
    assert lines[0] == "2 pairs used, 2 patches; 4 pairs skipped"
    assert len(lines) == 5


def test_nothing_left_is_an_error_that_says_why(root: Path) -> None:
    none: Tensor = torch.zeros(0, 4)
    with pytest.raises(
        DataError, match=r"expected at least one pair with a patch, got none of 5; .*/0\.png: no patch found"
    ):
        patch_sequences(opened(root), lambda _: lambda *_: none)  # type: ignore[arg-type, return-value]


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
