"""What ``--data`` is taken for: pairs in any layout, labeled sequences, or nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pair_folders import write_pairs

from mmdistill.reference.synthetic import SyntheticSequence, SyntheticSettings
from mmdistill.reference.training.data_sources import composed_sequences, training_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.image_pairs import MIN_SIDE, open_pairs
from mmdistill.toolkit.images import write_image

SIDES = st.one_of(st.integers(1, MIN_SIDE + 2), st.sampled_from([30, 500]))


def size(video: object) -> tuple[int, int]:
    assert isinstance(video, SyntheticSequence)
    return video.settings.size


@pytest.mark.parametrize("folders", ["train/vi train/ir", "visible/test infrared/test", "Vis Ir"])
def test_any_layout_of_pairs_is_composed(tmp_path: Path, folders: str) -> None:
    write_pairs(tmp_path / "made", 2, (96, 72))
    for side, folder in zip(("rgb", "tir"), folders.split(), strict=True):
        (tmp_path / "data" / folder).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "made" / side).rename(tmp_path / "data" / folder)
    videos = training_sequences(str(tmp_path / "data"), count=1, seed=0, scenes=1)
    assert [video.name for video in videos] == ["synthetic_0000", "scene0000"]
    assert size(videos[0]) == (480, 360)


def test_two_folders_of_any_name_are_composed(tmp_path: Path) -> None:
    write_pairs(tmp_path, 2, (96, 72))
    (tmp_path / "rgb").rename(tmp_path / "left")
    videos = training_sequences(None, count=1, seed=0, rgb=tmp_path / "left", tir=tmp_path / "tir")
    assert size(videos[0]) == (480, 360)


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4, (96, 72))
    (tmp_path / "rgb" / "00.png").unlink()
    (tmp_path / "tir" / "03.png").unlink()
    (tmp_path / "__MACOSX").mkdir()
    training_sequences(str(tmp_path), count=1, seed=0, data_issues=(data_issues := DataIssues()))
    lines = data_issues.lines()
    assert len(lines) == 5  # two kinds
    assert f"{tmp_path / 'rgb' / '03.png'}: expected a TIR image of the same name" in lines[1]
    assert f"{tmp_path / 'tir' / '00.png'}: expected an RGB image of the same name" in lines[2]
    assert f"{tmp_path / '__MACOSX'}" in lines[4]


def test_labels_are_never_lost_by_taking_video_for_pairs(tmp_path: Path) -> None:
    write_pairs(tmp_path / "train" / "car", 3, (96, 72))
    (tmp_path / "train" / "car" / "names.txt").write_text("00 01 02\n")
    assert training_sequences(str(tmp_path), count=1, seed=0)
    (tmp_path / "train" / "car" / "visible.txt").write_text("1,2,3,4\n" * 3)
    with pytest.raises(DataError, match=r"visible\.txt: expected images only, got boxes next to them.*lasher:"):
        training_sequences(str(tmp_path), count=1, seed=0)
    # Two folders given by name are pairs, whatever lies beside them.
    car = tmp_path / "train" / "car"
    assert training_sequences(None, count=1, seed=0, rgb=car / "rgb", tir=car / "tir")
    # A ground truth makes it a sequence, and its folder a folder of sequences.
    (tmp_path / "train" / "car" / "visible.txt").rename(tmp_path / "train" / "car" / "groundtruth.txt")
    (video,) = training_sequences(str(tmp_path / "train"), count=1, seed=0)
    assert (video.name, len(video)) == ("car", 3)


def test_labels_in_a_modality_folder_are_not_lost_either(tmp_path: Path) -> None:
    write_pairs(tmp_path, 3, (96, 72))
    (tmp_path / "rgb" / "groundtruth.txt").write_text("1,2,3,4\n" * 3)
    with pytest.raises(DataError, match=r"rgb/groundtruth\.txt: expected images only"):
        training_sequences(str(tmp_path), count=1, seed=0)


def test_a_sequence_may_be_named_for_a_modality(tmp_path: Path) -> None:
    for name in ("thermal_01", "thermal_02"):
        write_image(tmp_path / name / "1.png", np.zeros((20, 20, 3), np.uint8))
        (tmp_path / name / "groundtruth.txt").write_text("1,2,3,4\n")
    assert [video.name for video in training_sequences(str(tmp_path), count=1, seed=0)] == ["thermal_01", "thermal_02"]


def test_a_folder_of_neither_names_both(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.raises(DataError, match=r"no RGB-TIR pairs .*groundtruth\.txt"):
        training_sequences(str(tmp_path), count=1, seed=0)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rgb=st.tuples(SIDES, SIDES), tir=st.tuples(SIDES, SIDES))
def test_pairs_of_any_size_are_composed_or_refused(
    tmp_path_factory: pytest.TempPathFactory, rgb: tuple[int, int], tir: tuple[int, int]
) -> None:
    root = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    for side, (width, height) in (("rgb", rgb), ("tir", tir)):
        for number in range(2):
            write_image(root / side / f"{number}.png", generator.integers(0, 256, (height, width, 3), np.uint8))
    least = min(*rgb, *tir)
    if least < MIN_SIDE:
        small = rgb if min(rgb) == least else tir
        for count, scenes in ((1, 0), (0, 1)):
            with pytest.raises(DataError, match=rf"\d\.png: .*at least 9 x 9 pixels, got {small[0]} x {small[1]}$"):
                training_sequences(str(root), count=count, seed=0, scenes=scenes)
        return
    for video in training_sequences(str(root), count=1, seed=0, scenes=1):
        frame = video.frame(0)
        assert frame.rgb is not None
        assert frame.tir is not None
        assert frame.rgb.shape == frame.tir.shape
        assert (video.boxes[:, 2:] > 0).all()


def test_opened_pairs_are_composed_as_their_folder_is(tmp_path: Path) -> None:
    root = write_pairs(tmp_path, 3, (96, 72))
    first, second = (
        composed_sequences(given, slice(None), count=1, seed=3, length=2)[0].frame(1)
        for given in (root, open_pairs(os.fspath(root)))
    )
    np.testing.assert_array_equal(first, second)
    assert SyntheticSettings().size != (480, 360)
