from typing import NamedTuple

import numpy as np
import torch

from mmdistill.reference.tracking.memory import SlotTensors


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
