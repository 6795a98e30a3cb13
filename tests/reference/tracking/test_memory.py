from fractions import Fraction
from typing import NamedTuple

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.tracking.memory import SampleMemory, SlotTensors
from mmdistill.reference.tracking.settings import LearningSettings

SHAPE = (2, 3, 3)


def memory(initial: int, size: int, share: float, sequences: int = 1) -> SampleMemory:
    samples = SampleMemory(sequences, initial, LearningSettings(memory=size, initial_share=share))
    for sequence in range(sequences):
        start(samples, initial, sequence)
    return samples


def start(samples: SampleMemory, initial: int, sequence: int = 0) -> None:
    features = torch.arange(initial).float()[:, None, None, None].expand(-1, *SHAPE)
    samples.start(sequence, features, torch.arange(initial * 4).float().view(initial, 4))


def samples_of(samples: SampleMemory, *sequences: int) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    return samples.samples(np.array(sequences or (0,)))


def add(samples: SampleMemory, number: float, rate: float, sequence: int = 0) -> None:
    features, boxes = torch.full((1, *SHAPE), number), torch.full((1, 4), number)
    samples.add(np.array([sequence]), features, boxes, np.array([rate]))


def expected(*values: Fraction) -> np.ndarray:
    """The values, brought to a sum of 1."""
    return np.array([float(value / sum(values)) for value in values])


def test_weights_and_slots_by_hand() -> None:
    samples = memory(initial=2, size=4, share=0.0)
    np.testing.assert_allclose(samples.weights[:, 0], [0.5, 0.5, 0, 0])

    # The first: all others divided by 0.9, the new one gets 0.1.
    add(samples, 100, 0.1)
    first = expected(Fraction(5, 9), Fraction(5, 9), Fraction(1, 10), Fraction(0))
    np.testing.assert_allclose(samples.weights[:, 0], first)

    # A hard negative: the newest's weight divided by 0.8.
    add(samples, 101, 0.2)
    a, b = Fraction(5, 9), Fraction(1, 10)
    np.testing.assert_allclose(samples.weights[:, 0], expected(a, a, b, b / Fraction(8, 10)))

    # The memory is full: the lightest later sample makes room, heavier or not than the first frame's.
    add(samples, 102, 0.1)
    third = b / Fraction(8, 10) / Fraction(9, 10)
    np.testing.assert_allclose(samples.weights[:, 0], expected(a, a, third, b / Fraction(8, 10)))
    add(samples, 103, 0.1)
    np.testing.assert_allclose(samples.weights[:, 0], expected(a, a, third, third / Fraction(9, 10)))

    features, boxes, weights = samples_of(samples)
    assert features[:, 0, 0, 0, 0].tolist() == [0, 1, 102, 103]
    assert boxes[:, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [102] * 4, [103] * 4]
    np.testing.assert_allclose(weights[:, 0], samples.weights[:, 0], rtol=1e-6)


def test_the_first_frame_keeps_its_share() -> None:
    samples = memory(initial=2, size=5, share=0.5)
    add(samples, 100, 0.4)  # 5/6, 5/6, 2/5: the first frame has 25/31
    np.testing.assert_allclose(samples.weights[:3, 0], expected(Fraction(5, 6), Fraction(5, 6), Fraction(2, 5)))
    add(samples, 101, 0.4)  # 5/6, 5/6, 2/5, 2/3: it has 25/41
    add(samples, 102, 0.4)  # 5/6, 5/6, 2/5, 2/3, 10/9: it would have 75/173, the others 18, 30, 50 of 98
    np.testing.assert_allclose(
        samples.weights[:, 0], [0.25, 0.25, 0.5 * 18 / 98, 0.5 * 30 / 98, 0.5 * 50 / 98], rtol=1e-12
    )


def test_only_slots_in_use_are_learned_from() -> None:
    samples = memory(initial=3, size=50, share=0.25)
    assert [len(part) for part in samples_of(samples)] == [3, 3, 3]
    add(samples, 7, 0.01)
    assert [len(part) for part in samples_of(samples)] == [4, 4, 4]


def test_sequences_are_kept_apart() -> None:
    both, alone = memory(2, 4, 0.25, sequences=2), memory(2, 4, 0.25)
    untouched = both.weights[:, 1].copy()
    for number, rate in enumerate((0.1, 0.2, 0.1, 0.1)):
        add(both, number, rate)
        add(alone, number, rate)
    np.testing.assert_array_equal(both.weights[:, 0], alone.weights[:, 0])
    np.testing.assert_array_equal(both.weights[:, 1], untouched)
    features, _, weights = samples_of(both, 0, 1)
    assert features[2:, 1].count_nonzero() == 0
    assert not weights[2:, 1].any()
    alone, _, share = samples_of(both, 1)
    torch.testing.assert_close(alone[:, 0], features[:2, 1])
    np.testing.assert_array_equal(share[:, 0], weights[:2, 1])


def test_samples_of_several_sequences_are_added_at_once() -> None:
    one, two = memory(2, 4, 0.25, sequences=3), memory(2, 4, 0.25, sequences=3)
    features, boxes = torch.randn(2, *SHAPE), torch.randn(2, 4)
    one.add(np.array([0, 2]), features, boxes, np.array([0.1, 0.2]))
    for number, (sequence, rate) in enumerate([(2, 0.2), (0, 0.1)]):
        two.add(np.array([sequence]), features[[1 - number]], boxes[[1 - number]], np.array([rate]))
    for got, expected in zip(samples_of(one, 0, 1, 2), samples_of(two, 0, 1, 2), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_a_new_video_finds_nothing_of_the_one_before() -> None:
    samples = memory(2, 4, 0.25, sequences=2)
    for number in range(5):
        add(samples, torch.nan if number == 1 else number, 0.1, sequence=1)
        add(samples, number, 0.1)
    start(samples, 2, 1)
    features, _, weights = samples_of(samples, 0, 1)
    fresh = samples_of(memory(2, 4, 0.25))
    torch.testing.assert_close(features[:2, 1], fresh[0][:, 0])
    assert features[2:, 1].count_nonzero() == 0
    np.testing.assert_array_equal(weights[:, 1], [0.5, 0.5, 0, 0])
    assert features[2:, 0].count_nonzero() > 0


@given(st.lists(st.sampled_from([0.01, 0.02]), max_size=150), st.integers(1, 5), st.integers(1, 6))
def test_weights_always(rates: list[float], initial: int, later: int) -> None:
    samples = memory(initial, initial + later, 0.25)
    for number, rate in enumerate(rates):
        add(samples, 1000 + number, rate)
    weights = samples.weights[:, 0]
    np.testing.assert_allclose(weights.sum(), 1)
    assert weights[:initial].sum() >= 0.25 - 1e-12
    np.testing.assert_allclose(weights[:initial], weights[0])
    # What is kept are the latest, in any order, and a later one weighs more.
    features, _, used = samples_of(samples)
    numbers = features[initial:, 0, 0, 0, 0].numpy()
    assert set(numbers) == {1000 + number for number in range(len(rates))[-later:]}
    in_time = used[initial:, 0][np.argsort(numbers)]
    assert (np.diff(in_time) > 0).all()


class Two(NamedTuple):
    maps: torch.Tensor
    vectors: torch.Tensor


def rows(count: int) -> Two:
    return Two(torch.randn(count, 2, 3), torch.randn(count, 4))


def test_rows_come_back_where_they_were_put() -> None:
    slots: SlotTensors[Two] = SlotTensors(4)
    first, second = rows(2), rows(1)
    slots[np.array([1, 3])] = first
    slots[np.array([0])] = second
    for got, one, two in zip(slots[np.array([0, 1, 3])], second, first, strict=True):
        torch.testing.assert_close(got, torch.cat([one, two]))
    everything = slots[np.arange(4)]
    assert isinstance(everything, Two)
    assert not everything.maps[2].any()


def test_what_is_put_is_copied() -> None:
    slots: SlotTensors[Two] = SlotTensors(1)
    given = rows(1)
    slots[np.array([0])] = given
    given.maps.zero_()
    assert slots[np.array([0])].maps.any()
