from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.synthetic.events import (
    NUM_CLEAR_FRAMES,
    EventTimeline,
    Occlusion,
    attribute_flags,
    covered_share,
    random_timeline,
)


def scheduled(seed: int, length: int = 200, stretch: int = 30, **probabilities: float) -> EventTimeline:
    given_ones = {"darkness": 0.4, "crossover": 0.3, "occlusion": 0.3} | probabilities
    return random_timeline(np.random.default_rng(seed), length, stretch=stretch, **given_ones)


@given(seed=st.integers(0, 2**32 - 1), length=st.integers(1, 300), stretch=st.integers(1, 60))
def test_events_never_overlap_and_spare_the_start(seed: int, length: int, stretch: int) -> None:
    events = scheduled(seed, length, stretch)
    assert events.darkness.shape == events.crossover.shape == (length,)
    for strength in (events.darkness, events.crossover):
        assert strength.min() >= 0
        assert strength.max() <= 1
        assert not strength[:NUM_CLEAR_FRAMES].any()
    assert not (events.darkness * events.crossover).any()
    for occlusion in events.occlusions:
        start, end = occlusion.middle - occlusion.duration / 2, occlusion.middle + occlusion.duration / 2
        assert NUM_CLEAR_FRAMES <= start < end <= length
        within = slice(int(np.ceil(start)), int(end) + 1)
        assert not events.darkness[within].any()
        assert not events.crossover[within].any()


def test_probabilities_are_kept() -> None:
    many = [scheduled(seed, length=38, darkness=0.5, crossover=0.2, occlusion=0.1) for seed in range(1000)]
    shares = [
        np.mean([events.darkness.any() for events in many]),
        np.mean([events.crossover.any() for events in many]),
        np.mean([bool(events.occlusions) for events in many]),
    ]
    np.testing.assert_allclose(shares, (0.5, 0.2, 0.1), atol=0.05)


def test_events_come_and_go_smoothly() -> None:
    for seed in range(20):
        events = scheduled(seed, length=400)
        assert np.abs(np.diff(events.darkness)).max() < 0.4
        assert events.darkness.max() in (0.0, 1.0)


def test_covered_by_hand() -> None:
    boxes = np.array([[0.0, 0, 10, 10]] * 3)
    covers = np.array([[5.0, 0, 10, 10], [20, 20, 5, 5], [-5, -5, 30, 30]])
    np.testing.assert_allclose(covered_share(boxes, covers), [0.5, 0, 1])


def test_flags_by_hand() -> None:
    events = EventTimeline(np.array([0, 0.4, 1, 0]), np.array([0, 0, 0, 0.6]), (Occlusion(1, 1, 0),))
    target = np.array([[0.0, 0, 10, 10], [1, 0, 10, 10], [10, 0, 10, 10], [10, 0, 20, 10]])
    occluder = np.array([[9.0, 0, 10, 10], [8, 0, 10, 10], [90, 0, 9, 9], [90, 0, 9, 9]])
    far_then_near = np.array([[60.0, 0, 10, 10], [60, 0, 10, 10], [34, 0, 10, 10], [60, 0, 10, 10]])
    flags = attribute_flags(events, target, [far_then_near], [occluder])
    assert {name: values.astype(int).tolist() for name, values in flags.items()} == {
        "low_illumination": [0, 0, 1, 0],
        "thermal_crossover": [0, 0, 0, 1],
        "occlusion": [0, 1, 0, 0],
        "similar_appearance": [0, 0, 1, 0],
        "scale_variation": [0, 0, 0, 0],
        "fast_motion": [0, 0, 1, 1],
    }


@pytest.mark.parametrize(("growth", "varies"), [(1.4, False), (1.5, True), (1 / 1.5, True)])
def test_scale_variation_is_a_factor_of_root_two(growth: float, varies: bool) -> None:
    target = np.array([[0.0, 0, 10, 10], [0, 0, 10 * growth, 10 * growth]])
    flags = attribute_flags(EventTimeline(np.zeros(2), np.zeros(2), ()), target, [], [])
    assert flags["scale_variation"].tolist() == [False, varies]
