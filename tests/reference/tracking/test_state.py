"""The sample memory, and the state of all slots."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.tracking.settings import LearningSettings
from mmdistill.reference.tracking.state import Placement, TrackerState, allocate, place_samples
from mmdistill.reference.tracking.target_model import Filters

SHAPE = (2, 3, 3)

Array = NDArray[np.float64]


@dataclass
class Memory:
    """The state of some slots, whose first frames have ``initial`` samples."""

    state: TrackerState
    initial: int
    settings: LearningSettings

    def start(self, slot: int) -> None:
        """Start a slot; the first frame's samples are numbered from 0."""
        features = torch.arange(self.initial).double()[:, None, None, None].expand(-1, *SHAPE)
        boxes = torch.arange(self.initial * 4).double().view(self.initial, 4)
        self.state.start(slot, *example(1.0), features, boxes)

    def add(self, number: float, rate: float | list[float], kept: list[bool] | None = None) -> Placement:
        """Add one sample of some number to each slot, or to those that are kept."""
        target, slots = self.state.target, len(self.state.target.num_samples)
        rates = torch.as_tensor(rate, dtype=torch.float64).expand(slots)
        placement = place_samples(target, torch.tensor(kept or [True] * slots), rates, self.initial, self.settings)
        features, boxes = torch.full((slots, *SHAPE), number).double(), torch.full((slots, 4), number).double()
        self.state.memory.write(placement.row, torch.arange(slots), features, boxes)
        weights, count, newest = placement[1:]
        self.state = self.state._replace(target=target._replace(weights=weights, num_samples=count, newest=newest))
        return placement

    def weights(self, slot: int = 0) -> Array:
        return self.state.target.weights[:, slot].numpy()

    def numbers(self, slot: int = 0) -> list[float]:
        """The numbers of the samples in use, by row."""
        features, boxes = self.state.memory
        count = int(self.state.target.num_samples[slot])
        torch.testing.assert_close(features[self.initial : count, slot, 0, 0, 0], boxes[self.initial : count, slot, 0])
        return features[:count, slot, 0, 0, 0].tolist()


def example(value: float) -> tuple[Filters, Modulation]:
    """A target model and modulation vectors full of a value."""
    vectors = Modulation(torch.full((1, 5, 1, 1), value).double(), torch.full((1, 7, 1, 1), value).double())
    return Filters(torch.full((1, 2, 4, 4), value).double()), vectors


def memory(initial: int, size: int, share: float, slots: int = 1) -> Memory:
    samples = torch.zeros(initial, *SHAPE, dtype=torch.float64), torch.zeros(initial, 4, dtype=torch.float64)
    settings = LearningSettings(memory=size, initial_share=share)
    empty = Memory(allocate(slots, size, *example(0.0), *samples), initial, settings)
    for slot in range(slots):
        empty.start(slot)
    return empty


def updated_weights(weights: Array, row: int, newest: int, rate: float, initial: int, share: float) -> Array:
    """The weights of one slot with a new sample, in NumPy, sample by sample."""
    weights = weights.copy()
    if newest < 0:
        weights /= 1 - rate
        weights[row] = rate
    else:
        weights[row] = weights[newest] / (1 - rate)
    weights /= weights.sum()
    if weights[:initial].sum() < share:
        weights[initial:] *= (1 - share) / weights[initial:].sum()
        weights[:initial] = share / initial
    return weights


def expected(*values: Fraction) -> Array:
    """The values, brought to a sum of 1."""
    return np.array([float(value / sum(values)) for value in values])


def test_weights_and_rows_by_hand() -> None:
    samples = memory(initial=2, size=4, share=0.0)
    np.testing.assert_allclose(samples.weights(), [0.5, 0.5, 0, 0])

    # The first: all others divided by 0.9, the new one gets 0.1.
    samples.add(100, 0.1)
    first = expected(Fraction(5, 9), Fraction(5, 9), Fraction(1, 10), Fraction(0))
    np.testing.assert_allclose(samples.weights(), first)

    # A hard negative: the newest's weight divided by 0.8.
    samples.add(101, 0.2)
    a, b = Fraction(5, 9), Fraction(1, 10)
    np.testing.assert_allclose(samples.weights(), expected(a, a, b, b / Fraction(8, 10)))

    # The memory is full: the lightest later sample makes room, heavier or not than the first frame's.
    samples.add(102, 0.1)
    third = b / Fraction(8, 10) / Fraction(9, 10)
    np.testing.assert_allclose(samples.weights(), expected(a, a, third, b / Fraction(8, 10)))
    samples.add(103, 0.1)
    np.testing.assert_allclose(samples.weights(), expected(a, a, third, third / Fraction(9, 10)))
    assert samples.numbers() == [0, 1, 102, 103]
    assert samples.state.memory.boxes[:4, 0].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [102] * 4, [103] * 4]


def test_the_first_frame_keeps_its_share() -> None:
    samples = memory(initial=2, size=5, share=0.5)
    samples.add(100, 0.4)  # 5/6, 5/6, 2/5: the first frame has 25/31
    np.testing.assert_allclose(samples.weights()[:3], expected(Fraction(5, 6), Fraction(5, 6), Fraction(2, 5)))
    samples.add(101, 0.4)  # 5/6, 5/6, 2/5, 2/3: it has 25/41
    samples.add(102, 0.4)  # 5/6, 5/6, 2/5, 2/3, 10/9: it would have 75/173, the others 18, 30, 50 of 98
    np.testing.assert_allclose(samples.weights(), [0.25, 0.25, 0.5 * 18 / 98, 0.5 * 30 / 98, 0.5 * 50 / 98], rtol=1e-12)


def test_the_count_tells_the_rows_in_use() -> None:
    samples = memory(initial=3, size=50, share=0.25)
    assert (samples.state.target.num_samples.tolist(), samples.state.target.newest.tolist()) == ([3], [-1])
    samples.add(7, 0.01)
    assert (samples.state.target.num_samples.tolist(), samples.state.target.newest.tolist()) == ([4], [3])
    assert not samples.weights()[4:].any()


def test_a_sample_that_is_not_kept_goes_to_the_spare_row_and_changes_nothing() -> None:
    samples = memory(2, 4, 0.25, slots=2)
    for number in range(5):
        samples.add(number, 0.1)
    before = samples.state.target
    features, boxes = (values.clone() for values in samples.state.memory)
    placement = samples.add(torch.nan, 0.1, kept=[False, False])
    assert placement.row.tolist() == [4, 4]
    for got, kept in zip(placement[1:], before[2:], strict=True):
        assert torch.equal(got, kept)
    assert torch.equal(samples.state.memory.samples[:4], features[:4])
    assert torch.equal(samples.state.memory.boxes[:4], boxes[:4])
    assert samples.state.memory.samples[4].isnan().all()


rates = st.sampled_from([0.01, 0.02, 0.3])
frames = st.lists(st.lists(st.tuples(st.booleans(), rates), min_size=3, max_size=3), max_size=40)


@given(frames, st.integers(1, 5), st.integers(1, 6), st.sampled_from([0.0, 0.25, 0.9]), st.integers(0, 30))
def test_slots_are_kept_as_one_by_one_in_numpy(
    given_frames: list[list[tuple[bool, float]]], initial: int, later: int, share: float, restart: int
) -> None:
    size = initial + later
    samples = memory(initial, size, share, slots=3)
    weights, newest = np.zeros((3, size)), [-1] * 3
    rows: list[list[float]] = [[], [], []]

    def fresh(slot: int) -> None:
        weights[slot] = [1 / initial] * initial + [0] * later
        newest[slot], rows[slot] = -1, list(range(initial))

    for slot in range(3):
        fresh(slot)
    for number, frame in enumerate(given_frames):
        if number == restart:
            samples.start(1)
            fresh(1)
        kept, rate = (list(values) for values in zip(*frame, strict=True))
        samples.add(1000 + number, rate, kept)
        for slot in range(3):
            if not kept[slot]:
                continue
            full = len(rows[slot]) == size
            row = initial + int(weights[slot, initial:].argmin()) if full else len(rows[slot])
            weights[slot] = updated_weights(weights[slot], row, newest[slot], rate[slot], initial, share)
            newest[slot] = row
            rows[slot][row : row + 1] = [1000 + number]
        for slot in range(3):
            np.testing.assert_allclose(samples.weights(slot), weights[slot], rtol=1e-9, atol=1e-300)
            assert samples.numbers(slot) == rows[slot]
    assert samples.state.target.newest.tolist() == newest


@given(st.lists(st.sampled_from([0.01, 0.02]), max_size=150), st.integers(1, 5), st.integers(1, 6))
def test_weights_always(given_rates: list[float], initial: int, later: int) -> None:
    samples = memory(initial, initial + later, 0.25)
    for number, rate in enumerate(given_rates):
        samples.add(1000 + number, rate)
    weights = samples.weights()
    np.testing.assert_allclose(weights.sum(), 1)
    assert weights[:initial].sum() >= 0.25 - 1e-12
    np.testing.assert_allclose(weights[:initial], weights[0])
    # What is kept are the latest, in any order, and a later one weighs more.
    numbers = np.array(samples.numbers()[initial:])
    assert set(numbers) == {1000 + number for number in range(len(given_rates))[-later:]}
    in_time = weights[initial : initial + len(numbers)][np.argsort(numbers)]
    assert (np.diff(in_time) > 0).all()


def test_float32_keeps_the_weights_over_many_frames() -> None:
    samples = memory(15, 50, 0.25)
    target = samples.state.target
    single = target._replace(weights=target.weights.float())
    for number in range(3000):
        rate = 0.02 if number % 7 == 0 else 0.01
        double = samples.add(number, rate)
        placement = place_samples(single, torch.tensor([True]), torch.tensor([rate]), 15, samples.settings)
        assert torch.equal(placement.row, double.row)
        single = single._replace(weights=placement.weights, num_samples=placement.num_samples, newest=placement.newest)
    assert single.weights.dtype == torch.float32
    torch.testing.assert_close(single.weights.double(), samples.state.target.weights, rtol=1e-4, atol=0)


def test_a_new_video_finds_nothing_of_the_one_before() -> None:
    samples = memory(2, 4, 0.25, slots=2)
    for number in range(5):
        samples.add(torch.nan if number == 1 else number, 0.1)
    other = [values[:, 0].clone() for values in samples.state.memory]
    samples.start(1)
    fresh = memory(2, 4, 0.25)
    for got, new in zip(samples.state.memory, fresh.state.memory, strict=True):
        assert torch.equal(got[:, 1], new[:, 0])
    np.testing.assert_array_equal(samples.weights(1), [0.5, 0.5, 0, 0])
    assert (samples.state.target.num_samples.tolist(), samples.state.target.newest.tolist()) == ([4, 2], [2, -1])
    for got, kept in zip(samples.state.memory, other, strict=True):
        assert torch.equal(got[:, 0], kept)


def tensors(state: TrackerState) -> list[torch.Tensor]:
    target = state.target
    return [*target.model, *target.modulation, target.weights, target.num_samples, target.newest, *state.memory]


def test_a_start_writes_into_the_same_memory_and_copies_what_it_is_given() -> None:
    state = memory(2, 4, 0.25, slots=3).state
    addresses = [values.data_ptr() for values in tensors(state)]
    model, modulation = example(5.0)
    samples, boxes = torch.full((2, *SHAPE), 5.0).double(), torch.full((2, 4), 5.0).double()
    state.start(1, model, modulation, samples, boxes)
    for values in (*model, *modulation, samples, boxes):
        values.fill_(9)
    assert [values.data_ptr() for values in tensors(state)] == addresses
    for values in (*state.target.model, *state.target.modulation):
        assert [part.unique().tolist() for part in values] == [[1], [5], [1]]
    assert state.memory.samples[:2, 1].unique().tolist() == [5]
    assert state.memory.boxes[:2, 1].unique().tolist() == [5]


def test_a_selection_is_a_copy_of_some_slots() -> None:
    state = memory(2, 4, 0.25, slots=3).state
    for slot in range(3):
        state.start(slot, *example(float(slot)), *(values[:2, slot] + slot for values in state.memory))
    state.target.weights[0] = torch.tensor([10.0, 11, 12])
    state.target.num_samples.copy_(torch.tensor([20, 21, 22]))
    state.target.newest.copy_(torch.tensor([30, 31, 32]))
    chosen = state.target.select(torch.tensor([2, 0]))
    assert isinstance(chosen.model, Filters)
    for values in (*chosen.model, *chosen.modulation):
        assert [part.unique().tolist() for part in values] == [[2], [0]]
    assert chosen.weights[0].tolist() == [12, 10]
    assert (chosen.num_samples.tolist(), chosen.newest.tolist()) == ([22, 20], [32, 30])
    chosen.weights.zero_()
    chosen.model.filters.zero_()
    assert state.target.weights[0].tolist() == [10, 11, 12]
    assert state.target.model[0][2].unique().tolist() == [2]


def test_an_empty_state_has_no_samples() -> None:
    state = allocate(2, 5, *example(3.0), torch.ones(3, *SHAPE), torch.ones(3, 4))
    assert state.memory.samples.shape == (6, 2, *SHAPE)
    assert not any(values.any() for values in tensors(state) if values is not state.target.newest)
    assert state.target.newest.tolist() == [-1, -1]
    assert state.target.weights.shape == (5, 2)
