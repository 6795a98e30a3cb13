from __future__ import annotations

import pytest

from mmdistill.reference.training.trainer import DataWait


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def measured(waits: list[float], steps: float) -> DataWait:
    """Return the measurement of waits with steps of equal length in between."""
    clock = Clock()
    data_wait = DataWait(clock)
    for wait in waits:
        with data_wait.wait():
            clock.now += wait
        clock.now += steps
    return data_wait


def test_the_share_is_of_the_time_after_the_first_batch() -> None:
    assert DataWait().share == 0
    assert measured([60.0], 3.0).share == 0
    assert measured([60.0, 1.0, 0.5], 3.0).share == pytest.approx(1.5 / (3 * 3.0 + 1.5))


def test_a_wait_that_ends_in_an_error_is_no_wait_for_data() -> None:
    clock = Clock()
    data_wait = DataWait(clock)
    with pytest.raises(OSError, match="gone"), data_wait.wait():
        raise OSError("gone")
    clock.now += 1
    assert data_wait.share == 0


def test_the_summary_advises_workers() -> None:
    assert measured([9.0, 0.03, 0.03], 1.0).summary(0) == "waited for data 2 % of the time"
    long = measured([9.0, 1.0], 1.0)
    assert long.summary(4) == "waited for data 33 % of the time; increase training.workers, if there are idle cores"
    assert long.summary(0) == (
        "waited for data 33 % of the time; set training.workers to prepare data in other processes, if there are idle "
        "cores"
    )
