"""The delay between two videos: found from motion that both show, and refused otherwise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmdistill.toolkit.alignment.delay import Motion, estimate_delay, measure_motion
from mmdistill.toolkit.data_issues import DataError


def activity(times: np.ndarray, seed: int = 0) -> np.ndarray:
    """A signal of bursts at random times, defined at any time."""
    generator = np.random.default_rng(seed)
    starts, widths = generator.uniform(-5, 40, 40), generator.uniform(0.1, 0.5, 40)
    return 0.2 + np.exp(-(((times[:, None] - starts) / widths) ** 2)).sum(axis=1)


def recorded(rate: float, seconds: float, delay: float, seed: int = 0, noise: float = 0.05) -> Motion:
    times = np.arange(0, seconds, 1 / rate)
    energy = activity(times - delay, seed) * np.exp(noise * np.random.default_rng(9).normal(size=len(times)))
    return Motion(times, energy)


@pytest.mark.parametrize(("rate", "delay"), [(30, 0.4), (9, -0.37), (25, 1.63), (30, 0.0)])
def test_a_known_delay_is_found(rate: float, delay: float) -> None:
    found = estimate_delay(recorded(30, 25, 0), recorded(rate, 25, delay))
    assert found.sure
    assert abs(found.seconds - delay) < 0.25 / rate


def test_unrelated_motion_is_not_sure() -> None:
    found = [estimate_delay(recorded(30, 25, 0, seed), recorded(30, 25, 0, seed + 50)) for seed in range(8)]
    assert not any(each.sure for each in found)


def test_slow_motion_in_a_short_video_is_not_sure() -> None:
    times = np.arange(0, 6, 1 / 25)
    wrong = 0
    for seed in range(6):
        slow = [activity(times / 3 + 4 * each, seed + 90 * each) for each in (0, 1)]
        found = estimate_delay(*(Motion(times, energy) for energy in slow))
        wrong += found.sure
        assert found.significance < 5
    assert not wrong


def test_the_significance_of_independent_values_is_that_of_their_number() -> None:
    """Of n independent pairs of values, the correlation has a deviation of about one by the root of n."""
    generator = np.random.default_rng(0)
    times = np.arange(0, 40, 0.1)
    energies = np.exp(generator.normal(size=(2, len(times))))
    found = estimate_delay(*(Motion(times, energy) for energy in energies))
    expected = math.atanh(found.correlation) * math.sqrt(len(times))
    assert expected / 1.4 < found.significance < expected * 1.1
    assert not found.sure


def test_periodic_motion_is_not_sure() -> None:
    times = np.arange(0, 20, 1 / 30)
    swinging = Motion(times, 1.5 + np.sin(2 * np.pi * times))
    assert not estimate_delay(swinging, swinging).sure


def test_a_delay_beyond_the_limit_is_not_sure() -> None:
    assert not estimate_delay(recorded(30, 25, 0), recorded(30, 25, 3.5)).sure


@pytest.mark.parametrize(
    ("motion", "says"),
    [
        (recorded(30, 2, 0), "at least 4 seconds of TIR"),
        (Motion(np.array([]), np.array([])), "at least 4 seconds of TIR"),
        (Motion(np.arange(0, 10, 0.1), np.ones(100)), "motion that changes in TIR"),
    ],
)
def test_too_little_is_refused(motion: Motion, says: str) -> None:
    with pytest.raises(DataError, match=says):
        estimate_delay(recorded(30, 25, 0), motion)


def test_motion_is_the_change_per_second_whatever_the_gain() -> None:
    texture = np.random.default_rng(0).integers(0, 256, (48, 200, 1), dtype=np.uint8).repeat(3, axis=2)
    shifts = [0, 0, 4, 8, 8, 8]
    images = [texture[:, shift : shift + 64] for shift in shifts]
    images[5] = np.asarray(0.5 * images[5] + 30, np.uint8)
    motion = measure_motion(np.arange(6) / 10, images)
    np.testing.assert_allclose(motion.times, [0.05, 0.15, 0.25, 0.35, 0.45])
    still, moving = motion.energy[[0, 3, 4]], motion.energy[[1, 2]]
    assert still.max() < 0.1 * moving.min()


def test_missing_frames_are_passed_over() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    motion = measure_motion(np.arange(4.0), [image, None, image, image])
    np.testing.assert_allclose(motion.times, [1.0, 2.5])
