from __future__ import annotations

import pytest

from mmdistill.reference.training.trainer import Waiting


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def run(waits: list[float], steps: float) -> Waiting:
    """Return what is measured of a run of waits, with steps of equal length between them."""
    clock = Clock()
    waiting = Waiting(clock)
    for wait in waits:
        with waiting.wait():
            clock.now += wait
        clock.now += steps
    return waiting


def test_the_share_is_of_the_time_after_the_first_batch() -> None:
    assert Waiting().share == 0
    assert run([60.0], 3.0).share == 0
    assert run([60.0, 1.0, 0.5], 3.0).share == pytest.approx(1.5 / (3 * 3.0 + 1.5))


def test_a_wait_that_ends_in_an_error_is_no_wait_for_data() -> None:
    clock = Clock()
    waiting = Waiting(clock)
    with pytest.raises(OSError, match="gone"), waiting.wait():
        raise OSError("gone")
    clock.now += 1
    assert waiting.share == 0


def test_it_says_what_would_help() -> None:
    assert run([9.0, 0.03, 0.03], 1.0).told(0) == "waited for data 2 % of the time"
    much = run([9.0, 1.0], 1.0)
    assert much.told(4) == (
        "waited for data 33 % of the time; more training.workers would help if there are cores to spare"
    )
    assert much.told(0) == (
        "waited for data 33 % of the time; training.workers, which prepare it beside the steps, would help if there "
        "are cores to spare"
    )
