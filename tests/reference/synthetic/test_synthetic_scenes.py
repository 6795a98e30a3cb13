from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.reference.synthetic import SceneSettings, scene_sequences
from mmdistill.reference.training.data_sources import training_sequences
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs
from mmdistill.toolkit.images import write_image

STILL = SceneSettings(gain=0, shift=0, blur=0, noise=0)
SIZE = (120, 80)


@pytest.fixture
def pairs(tmp_path: Path) -> Pairs:
    generator = np.random.default_rng(0)
    for number in range(4):
        coarse = generator.integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)
        coarse[1] = coarse[1, ..., :1]
        for side, image in zip(("rgb", "tir"), coarse, strict=True):
            write_image(tmp_path / side / f"{number}.png", np.asarray(cv2.resize(image, SIZE), np.uint8))
    return open_pairs(tmp_path)


def test_the_box_holds_the_same_part_of_the_scene_in_every_view(pairs: Pairs) -> None:
    for scene in scene_sequences(pairs, 6, seed=1, settings=STILL):
        held = []
        for index in range(len(scene)):
            frame = scene.frame(index)
            assert frame.rgb is not None
            assert frame.tir is not None
            assert frame.rgb.shape == frame.tir.shape
            x, y, w, h = np.rint(scene.boxes[index]).astype(int)
            assert x >= 0
            assert y >= 0
            assert x + w <= frame.rgb.shape[1] + 1
            assert y + h <= frame.rgb.shape[0] + 1
            part = np.dstack([frame.rgb, frame.tir])[y : y + h, x : x + w]
            held.append(cv2.resize(part[..., :3], (12, 12), interpolation=cv2.INTER_AREA).astype(float))
        assert np.abs(np.stack(held) - held[0]).mean() < 6  # of 255: whole pixels and resampling
        assert len({scene.frame(index).rgb.shape for index in range(len(scene))}) > 1  # type: ignore[union-attr]


def test_views_differ_as_the_settings_say(pairs: Pairs) -> None:
    (scene,) = scene_sequences(pairs, 1, seed=0, settings=SceneSettings(length=30, stretch=0))
    frames = [scene.frame(index).rgb for index in range(30)]
    means = [float(frame.mean()) for frame in frames if frame is not None]
    assert 5 < np.std(means) < 25  # a shift of 12 gray levels, less what black and white cut off
    assert {frame.shape for frame in frames if frame is not None} == {(SIZE[1], SIZE[0], 3)}


def test_a_thermal_image_stays_gray(pairs: Pairs) -> None:
    tir = scene_sequences(pairs, 1, seed=0)[0].frame(0).tir
    assert tir is not None
    assert (tir == tir[..., :1]).all()


def test_the_same_seed_gives_the_same_scene(pairs: Pairs) -> None:
    first, second, other = (scene_sequences(pairs, 2, seed=seed)[1] for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.boxes, second.boxes)
    np.testing.assert_array_equal(first.frame(5), second.frame(5))
    assert first.boxes.shape == other.boxes.shape
    assert (first.boxes != other.boxes).any()
    assert first.name == "scene0001"


def test_training_gets_scenes_of_the_pairs_that_are_not_held_out(pairs: Pairs) -> None:
    root = str(pairs.root)
    sequences = training_sequences(root, count=3, seed=0, hold_out=2, scenes=5)
    assert [sequence.name for sequence in sequences[3:]] == [f"scene{number:04d}" for number in range(5)]
    kept = {scene._pairs.names[scene._index] for scene in sequences[3:]}  # type: ignore[attr-defined]
    assert kept <= {"0.png", "1.png"}
    with pytest.raises(DataError, match="expected at least 1 pair, got none"):
        scene_sequences(pairs[:0], 1, seed=0)
