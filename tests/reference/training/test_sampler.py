from dataclasses import replace

import numpy as np
import pytest
import torch

from mmdistill import Pair
from mmdistill.reference.crops import IMAGENET_MEAN, IMAGENET_STD, to_tensor
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_loader import batches, collate
from mmdistill.reference.training.sampler import Jitter, Sampler, SampleSettings, _contrasted
from mmdistill.toolkit.boxes import centers
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


def test_batches_go_on_where_they_stopped() -> None:
    source = sampler()
    whole = list(batches(source, 2, start=0, stop=3))
    rest = list(batches(source, 2, start=1, stop=3))
    assert len(rest) == 2
    for a, b in zip(whole[1:], rest, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_shapes_of_a_batch() -> None:
    batch = collate([sampler(train_frames=2, test_frames=1).sample(n) for n in range(4)])
    assert batch.train.rgb.shape == batch.train.tir.shape == (2, 4, 3, 96, 96)
    assert batch.test.rgb.shape == (1, 4, 3, 96, 96)
    assert batch.train_boxes.shape == (2, 4, 4)
    assert batch.test_boxes.shape == (1, 4, 4)
    assert batch.proposals.shape == (1, 4, 8, 4)
    assert batch.overlaps.shape == (1, 4, 8)


def test_images_travel_as_bytes_and_are_normalized_where_they_arrive_to_the_same_bits() -> None:
    samples = [sampler(train_frames=2, test_frames=1).sample(n) for n in range(3)]
    batch = collate(samples)
    there = batch.to(torch.device("cpu"))
    for part in ("train", "test"):
        crops = [getattr(sample, part).images for sample in samples]
        for sent, got, images in zip(getattr(batch, part), getattr(there, part), zip(*crops, strict=True), strict=True):
            assert sent.dtype == torch.uint8
            expected = torch.stack([to_tensor(each) for each in images], dim=1)
            torch.testing.assert_close(got, expected, rtol=0, atol=0)
            assert got.stride() == sent.stride()
    torch.testing.assert_close(there.to(torch.device("cpu")), there, rtol=0, atol=0)


def test_images_are_normalized_as_for_imagenet() -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 5, 3), dtype=np.uint8)
    expected = (image / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(to_tensor([image])[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_nothing_to_learn_from_is_named() -> None:
    with pytest.raises(DataError, match="no sequences were found"):
        Sampler([], 64, 5.0)
    with pytest.raises(DataError, match="marked: no frame has a box"):
        Sampler([Marked(5, slice(0, 0))], 64, 5.0)


def test_a_cached_sequence_makes_each_frame_once() -> None:
    source = Marked()
    cached = CachedSequence(source)
    assert cached.frame(3) is cached.frame(3)
    assert source.asked == [3]
    assert (cached.name, len(cached), cached.boxes is source.boxes) == ("marked", 80, True)
