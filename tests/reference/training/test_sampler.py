from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill import Pair
from mmdistill.reference.crops import IMAGENET_MEAN, IMAGENET_STD, to_tensor
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.sampler import Sampler, _contrasted, propose
from mmdistill.reference.training.settings import Jitter, ProposalSettings, SampleSettings
from mmdistill.toolkit.boxes import centers, intersection_over_union
from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.sequence import CachedSequence, FramePair

SETTINGS = SyntheticSettings(size=(160, 120), target_size=(20.0, 30.0), length=12)


class Marked:
    """A bright square on black, RGB; its TIR inverted. Frame t's brightness tells t."""

    name = "marked"
    attributes: dict[str, np.ndarray] = {}  # noqa: RUF012

    def __init__(self, length: int = 80, labeled: slice = slice(None)) -> None:
        self.boxes = np.full((length, 4), np.nan)
        self.boxes[labeled] = [60, 50, 24, 16]
        self.asked: list[int] = []

    def __len__(self) -> int:
        return len(self.boxes)

    def frame(self, index: int) -> FramePair:
        self.asked.append(index)
        rgb = np.zeros((120, 160, 3), dtype=np.uint8)
        rgb[50:66, 60:84] = 200
        return Pair(rgb, 255 - rgb)


def sampler(**options: object) -> Sampler:
    return Sampler(synthetic_sequences(3, seed=0, settings=SETTINGS), 96, 5.0, SampleSettings(**options))  # type: ignore[arg-type]


def test_sample_k_is_always_the_same() -> None:
    first, second = sampler(), sampler()
    first.sample(0)
    for a, b in zip(first.sample(7), second.sample(7), strict=True):
        for x, y in zip(_arrays(a), _arrays(b), strict=True):
            np.testing.assert_array_equal(x, y)
    assert not np.array_equal(first.sample(7).proposals, first.sample(8).proposals)


def _arrays(part: object) -> list[np.ndarray]:
    if isinstance(part, np.ndarray):
        return [part]
    return [array for item in part for array in _arrays(item)]  # type: ignore[attr-defined]


def test_frames_stay_within_the_gap_and_the_labels() -> None:
    sequence = Marked(200, slice(40, 160))
    source = Sampler([sequence], 64, 5.0, SampleSettings(gap=10))
    for number in range(30):
        sequence.asked.clear()
        source.sample(number)
        assert len(set(sequence.asked)) == 6
        assert max(sequence.asked) - min(sequence.asked) <= 20
        assert min(sequence.asked) >= 40
        assert max(sequence.asked) < 160


def test_a_still_image_gives_all_six() -> None:
    sample = Sampler([Marked(1)], 64, 5.0).sample(0)
    assert len(sample.train.boxes) == len(sample.test.boxes) == 3


def test_crops_follow_their_boxes_in_both_modalities() -> None:
    source = Sampler([Marked()], 96, 5.0, SampleSettings(gray=0.0, brightness=0.0))
    for number in range(20):
        sample = source.sample(number)
        for part in (sample.train, sample.test):
            for rgb, tir, box in zip(*part.images, part.boxes, strict=True):
                np.testing.assert_allclose(rgb, 255.0 - tir, atol=1)  # resizing rounds
                x, y, w, h = box
                inside = rgb[
                    max(round(y + 2), 0) : max(round(y + h - 2), 0), max(round(x + 2), 0) : max(round(x + w - 2), 0)
                ]
                if inside.size:
                    assert (inside > 150).all()


def test_jitter_is_as_far_as_stated() -> None:
    still, moving = Jitter(0.0, 0.0), Jitter(4.5, 0.0)
    settings = SampleSettings(train_jitter=still, test_jitter=moving)
    source = Sampler([Marked()], 100, 5.0, settings)
    samples = [source.sample(number) for number in range(200)]
    side = 100 / 5
    train = np.concatenate([centers(s.train.boxes) for s in samples]) - 50
    test = np.concatenate([centers(s.test.boxes) for s in samples]) - 50
    assert abs(train).max() < 1  # whole image pixels
    assert abs(test).max() == pytest.approx(4.5 / 2 * side, rel=0.05)
    assert abs(test).mean() == pytest.approx(4.5 / 4 * side, rel=0.1)


def test_gray_takes_the_color_of_all_rgb_crops() -> None:
    sample = sampler(gray=1.0, brightness=0.0).sample(0)
    for crop in [*sample.train.images.rgb, *sample.test.images.rgb]:
        assert (crop == crop[..., :1]).all()


def test_modalities_may_change_places_for_a_whole_sample() -> None:
    plain, other = ({"gray": 0.0, "brightness": 0.0, "swap": swap} for swap in (0.0, 1.0))
    swapped = sampler(**other).sample(0)
    for part in (swapped.train, swapped.test):
        for tir in part.images.tir:  # RGB without its color
            assert (tir == tir[..., :1]).all()
    bright = Sampler([Marked()], 96, 5.0, SampleSettings(**plain)).sample(0)  # type: ignore[arg-type]
    dark = Sampler([Marked()], 96, 5.0, SampleSettings(**other)).sample(0)  # type: ignore[arg-type]
    assert np.mean(bright.test.images.rgb) < 60 < 200 < np.mean(dark.test.images.rgb)
    share = [
        np.mean(Sampler([Marked()], 96, 5.0, SampleSettings(swap=0.5)).sample(n).test.images.rgb) for n in range(40)
    ]
    assert 10 < sum(value > 127 for value in share) < 30


@pytest.mark.parametrize("seed", range(4))
def test_a_missing_modality_is_replaced_by_the_same_crop(seed: int) -> None:
    settings = SampleSettings(missing=1.0, contrast=0.4)
    [sample] = [Sampler([Marked()], 96, 5.0, settings, seed=seed).sample(0)]
    for crops in (sample.train, sample.test):
        for rgb, tir in zip(*crops.images, strict=True):
            np.testing.assert_array_equal(rgb, tir)


def test_either_modality_is_missing_equally_often() -> None:
    """The marked square is bright in RGB and dark in TIR."""
    settings = SampleSettings(missing=0.5, brightness=0.0)
    drawn = [Sampler([Marked()], 96, 5.0, settings).sample(number).train.images for number in range(80)]
    same = [images.rgb[0].mean() for images in drawn if np.array_equal(images.rgb[0], images.tir[0])]
    assert 25 <= len(same) <= 55
    assert 0.25 <= np.mean([brightness > 127 for brightness in same]) <= 0.75


def test_contrast_changes_about_the_mean() -> None:
    (scene,) = synthetic_sequences(1, seed=0, settings=SETTINGS)
    fixed = SampleSettings(gray=0.0, brightness=0.0)
    plain, varied = (Sampler([scene], 96, 5.0, replace(fixed, contrast=value)) for value in (0.0, 0.4))
    deviations = [np.log(np.std(varied.sample(n).test.images.rgb[0])) for n in range(60)]
    assert np.std(deviations) > np.std([np.log(np.std(plain.sample(n).test.images.rgb[0])) for n in range(60)]) + 0.1
    crop = np.arange(100, 150, dtype=np.uint8).repeat(6).reshape(10, 10, 3)
    changed = _contrasted(crop, 0.4, np.random.default_rng(1)).astype(float)
    factor = np.exp(0.4 * np.random.default_rng(1).normal())
    np.testing.assert_allclose(changed - crop.mean(), factor * (crop - crop.mean()), atol=0.5)


def test_images_are_normalized_as_for_imagenet() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    expected = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(to_tensor([image])[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_nothing_to_learn_from_is_named() -> None:
    with pytest.raises(DataError, match="training data: expected at least one sequence, got none"):
        Sampler([], 64, 5.0)
    with pytest.raises(DataError, match="marked: expected at least one frame with a finite box"):
        Sampler([Marked(5, slice(0, 0))], 64, 5.0)


def test_a_cached_sequence_makes_each_frame_once() -> None:
    source = Marked()
    cached = CachedSequence(source)
    assert cached.frame(3) is cached.frame(3)
    assert source.asked == [3]
    assert (cached.name, len(cached), cached.boxes is source.boxes) == ("marked", 80, True)


@given(st.floats(1, 300), st.floats(1, 300), st.integers(0, 1000))
def test_overlaps_are_right_and_at_least_the_minimum(width: float, height: float, seed: int) -> None:
    box = np.array([10.0, -20.0, width, height])
    proposals, overlaps = propose(box, ProposalSettings(), np.random.default_rng(seed))
    assert proposals.shape == (8, 4)
    np.testing.assert_allclose(overlaps, intersection_over_union(proposals, box))
    assert (overlaps >= 0.1).all()


def test_proposals_spread_from_close_to_far() -> None:
    generator = np.random.default_rng(0)
    overlaps = np.concatenate([propose([0, 0, 40, 30], ProposalSettings(), generator)[1] for _ in range(200)])
    assert np.quantile(overlaps, 0.95) > 0.95
    assert np.quantile(overlaps, 0.1) < 0.5


def test_a_deviation_is_relative_to_the_box() -> None:
    settings = ProposalSettings(count=4000, deviations=(0.1,), minimum_iou=0.0)
    proposals, _ = propose([100, 100, 90, 40], settings, np.random.default_rng(0))
    middle = proposals[:, :2] + proposals[:, 2:] / 2
    assert middle.std(axis=0) == pytest.approx([6, 6], rel=0.06)  # a tenth of sqrt(90 * 40)
    assert np.log(proposals[:, 2:]).std(axis=0) == pytest.approx([0.1, 0.1], rel=0.06)
