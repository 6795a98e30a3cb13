from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdistill.reference.synthetic import (
    PairTextures,
    ProceduralTextures,
    SyntheticSequence,
    SyntheticSettings,
    synthetic_sequences,
)
from mmdistill.reference.synthetic.sprites import contrasting_tone
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.datasets.folder_sequence import FolderSequence, write_sequence
from mmdistill.toolkit.datasets.image_pairs import open_pairs

PLAIN = SyntheticSettings(
    length=40, distractors=(0, 0), low_illumination=0, thermal_crossover=0, occlusion=0, camera_motion=0, noise=(0, 0)
)
ATTRIBUTES = {
    "low_illumination",
    "thermal_crossover",
    "occlusion",
    "similar_appearance",
    "scale_variation",
    "fast_motion",
}


def contrast(sequence: SyntheticSequence, index: int) -> np.ndarray:
    """The difference between the middle of the box and a ring around the box, gray levels, RGB and TIR."""
    x, y, w, h = sequence.boxes[index]
    images = sequence.frame(index)
    height, width = sequence.settings.size[::-1]
    rows, columns = np.mgrid[:height, :width] + 0.5
    away = np.maximum(np.abs(columns - x - w / 2) / w, np.abs(rows - y - h / 2) / h)
    middle, ring = away < 0.25, (away > 0.55) & (away < 1)
    return np.array(
        [np.sqrt(((image[middle].mean(axis=0) - image[ring].mean(axis=0)) ** 2).mean()) for image in images]
    )


def difference(first: SyntheticSequence, second: SyntheticSequence, index: int) -> float:
    pairs = zip(first.frame(index), second.frame(index), strict=True)
    return float(np.mean([np.abs(a.astype(int) - b).mean() for a, b in pairs]))


def test_is_a_tracking_sequence() -> None:
    sequence = SyntheticSequence(SyntheticSettings(size=(160, 120), length=30), ProceduralTextures(), 3, name="mine")
    assert sequence.name == "mine"
    assert len(sequence) == 30
    assert sequence.boxes.shape == (30, 4)
    assert np.isfinite(sequence.boxes).all()
    assert set(sequence.attributes) == ATTRIBUTES
    assert all(flags.shape == (30,) and flags.dtype == bool for flags in sequence.attributes.values())
    rgb, tir = sequence.frame(29)
    assert rgb is not None
    assert tir is not None
    assert rgb.shape == tir.shape == (120, 160, 3)
    assert rgb.dtype == tir.dtype == np.uint8
    np.testing.assert_array_equal(tir[..., 0], tir[..., 2])
    for index in (-1, 30):
        with pytest.raises(IndexError, match=rf"mine: frame {index} of 30"):
            sequence.frame(index)


def test_frames_do_not_depend_on_the_order_they_are_asked_in() -> None:
    first, again = (SyntheticSequence(SyntheticSettings(length=30), ProceduralTextures(), 1) for _ in range(2))
    forward = [first.frame(index) for index in range(30)]
    for index in (29, 3, 3, 17, 0):
        for one, other in zip(forward[index], again.frame(index), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_sequence_depends_on_seed_and_number_alone() -> None:
    settings = SyntheticSettings(length=20)
    few, many = (synthetic_sequences(count, seed=5, settings=settings) for count in (2, 4))
    assert [sequence.name for sequence in many] == [f"synthetic_000{number}" for number in range(4)]
    for one, other in zip(few, many, strict=False):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        assert difference(one, other, 10) == 0


def test_other_seeds_and_numbers_give_other_content() -> None:
    settings = SyntheticSettings(length=20)
    sequences = [sequence for seed in (0, 1) for sequence in synthetic_sequences(3, seed=seed, settings=settings)]
    for number, one in enumerate(sequences):
        for other in sequences[number + 1 :]:
            assert difference(one, other, 0) > 10
            assert np.abs(one.boxes - other.boxes).mean() > 2


def test_the_box_is_that_of_the_pixels_that_vanish_with_the_target() -> None:
    for sequence in synthetic_sequences(8, seed=2, settings=PLAIN):
        target = sequence._target
        nothing = replace(target, sprite=replace(target.sprite, alpha=np.zeros_like(target.sprite.alpha)))
        for index in range(0, 40, 6):
            with_target = sequence.frame(index).rgb.astype(int)
            sequence._target = nothing
            gone = np.abs(with_target - sequence.frame(index).rgb).max(axis=2) > 16
            sequence._target = target
            rows, columns = np.flatnonzero(gone.any(axis=1)), np.flatnonzero(gone.any(axis=0))
            x, y, w, h = sequence.boxes[index]
            expected = np.clip([x, y, x + w, y + h], 0, (240, 180, 240, 180))
            np.testing.assert_allclose([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], expected, atol=2.5)


def visible(textures: ProceduralTextures | PairTextures) -> list[float]:
    best = []
    for sequence in synthetic_sequences(12, seed=8, settings=SyntheticSettings(occlusion=0), textures=textures):
        best += [float(contrast(sequence, index).max()) for index in range(0, 100, 9)]
    return best


def test_the_target_is_visible_in_at_least_one_modality() -> None:
    best = visible(ProceduralTextures())
    assert min(best) > 20
    assert np.median(best) > 40


def test_the_target_is_visible_on_real_pairs(real_data: Path) -> None:
    best = visible(PairTextures(open_pairs(real_data / "pairs" / "RoadScene")))
    assert min(best) > 20
    assert np.median(best) > 40


def test_darkness_hides_the_target_in_rgb_and_crossover_in_tir() -> None:
    settings = SyntheticSettings(low_illumination=0.5, thermal_crossover=0.5, occlusion=0, distractors=(0, 0))
    clear, dark, crossed = [], [], []
    for sequence in synthetic_sequences(12, seed=4, settings=settings):
        timeline = sequence._timeline
        for index in range(0, 100, 4):
            if timeline.darkness[index] == 1:
                dark.append(contrast(sequence, index))
            elif timeline.crossover[index] == 1:
                crossed.append(contrast(sequence, index))
            elif timeline.darkness[index] == timeline.crossover[index] == 0:
                clear.append(contrast(sequence, index))
    rgb, tir = np.median(clear, axis=0)
    assert np.median(dark, axis=0)[0] < 0.2 * rgb
    assert np.median(dark, axis=0)[1] > 0.8 * tir
    assert np.median(crossed, axis=0)[0] > 0.8 * rgb
    assert np.median(crossed, axis=0)[1] < 0.25 * tir


def test_what_passes_in_front_hides_the_target_in_both_modalities() -> None:
    settings = replace(PLAIN, length=60, occlusion=1)
    occluded = 0
    for sequence in synthetic_sequences(5, seed=1, settings=settings):
        flags = sequence.attributes["occlusion"]
        assert not flags[:8].any()
        occluded += int(flags.sum())
        for occlusion in sequence._timeline.occlusions:
            middle = round(occlusion.middle)
            with_occluder = sequence.frame(middle)
            box = sequence.boxes[middle]
            sequence._occluders, kept = [], sequence._occluders
            without = sequence.frame(middle)
            sequence._occluders = kept
            x, y, w, h = box
            inside = np.s_[max(int(y + h / 3), 0) : int(y + 2 * h / 3), max(int(x + w / 3), 0) : int(x + 2 * w / 3)]
            for covered, bare in zip(with_occluder, without, strict=True):
                assert (covered[inside] != bare[inside]).mean() > 0.5
    assert occluded > 10


def test_look_alikes_look_alike() -> None:
    sequences = synthetic_sequences(8, seed=3, settings=SyntheticSettings(distractors=(2, 2), length=10))
    alike = []
    for sequence in sequences:
        target = sequence._target.sprite
        for distractor in sequence._distractors:
            np.testing.assert_array_equal(distractor.sprite.alpha, target.alpha)
            change = np.abs(distractor.sprite.colors - target.colors).mean(axis=(0, 1))
            alike.append((change[:3].mean() < 20, change[3] < 20))
    assert len(alike) == 16
    assert all(rgb or tir for rgb, tir in alike)
    assert {(True, True), (True, False), (False, True)} == set(alike)


def test_a_tone_stands_out_with_as_little_change_as_needed() -> None:
    generator = np.random.default_rng(0)
    surroundings = np.array([[100.0, 100, 100, 60], [120, 100, 90, 80]])
    far = np.array([200.0, 200, 200, 200])
    np.testing.assert_array_equal(contrasting_tone(generator, far, surroundings, 50), far)
    near = np.array([105.0, 100, 100, 200])
    chosen = contrasting_tone(generator, near, surroundings, 50)
    assert np.linalg.norm(chosen[:3] - surroundings[:, :3], axis=1).min() >= 50
    assert chosen[3] == 200


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    sequence = SyntheticSequence(SyntheticSettings(length=12), ProceduralTextures(), 6)
    write_sequence(sequence, tmp_path / "x")
    again = FolderSequence(tmp_path / "x")
    np.testing.assert_array_equal(again.boxes, sequence.boxes)
    assert set(again.attributes) == ATTRIBUTES
    for one, other in zip(again.frame(11), sequence.frame(11), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("length", [1, 2, 9])
def test_short_videos(length: int) -> None:
    sequence = SyntheticSequence(SyntheticSettings(length=length), ProceduralTextures(), 0)
    assert len(sequence.boxes) == length
    sequence.frame(length - 1)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("target_size", (40.0, 20.0), r"expected a range from low to high, got \(40\.0, 20\.0\)"),
        ("target_size", (20.0, 400.0), r"SyntheticSettings\.size: expected an image larger than the largest target"),
        ("length", 0, r"length: expected a whole number from 1 to 1,000,000, got 0"),
        ("occlusion", 0.9, r"expected probabilities of .* that sum to at most 1"),
        ("speed", (0.0, 1.0), r"speed: expected a number above 0, at most 1,000, got 0.0"),
    ],
)
def test_settings_out_of_range_are_named(setting: str, value: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SyntheticSettings(**{setting: value})


def test_it_is_fast() -> None:
    """An order of magnitude above what was measured, so that a busy machine does not fail it."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    start = time.process_time()
    sequences = synthetic_sequences(10, seed=0)
    built = time.process_time()
    for sequence in sequences:
        for index in range(0, 100, 5):
            sequence.frame(index)
    rendered = time.process_time()
    cv2.setNumThreads(threads)
    assert (built - start) / 10 < 0.2
    assert (rendered - built) / 200 < 0.005
