"""The tracker's state on its device: tensors with a slot axis, and the sample memory from which target models learn."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mmdistill.reference.models.iou_net import Modulation
from mmdistill.reference.tracking.settings import LearningSettings


class TargetState(NamedTuple):
    """The state that tracking one frame reads, of S slots.

    Attributes:
        model: the target model's tensors, ``(S, ...)``: ``Filters`` or ``OnlineFilters``.
        modulation: the IoU-Net's modulation vectors, ``(S, C, 1, 1)`` each.
        weights: of the samples in memory, ``(M, S)``, summing to 1 over each slot's samples; 0 in free rows.
        num_samples: number of rows in use, ``(S,)``, int64.
        newest: row of the newest sample after the first frame's, ``(S,)``, int64; -1 if there is none.
    """

    model: tuple[Tensor, ...]
    modulation: Modulation
    weights: Tensor
    num_samples: Tensor
    newest: Tensor

    def select(self, index: Tensor) -> TargetState:
        """Return the state of some slots, copied; ``index`` is ``(s,)``, int64."""
        return TargetState(
            type(self.model)(*(tensor.index_select(0, index) for tensor in self.model)),
            Modulation(*(tensor.index_select(0, index) for tensor in self.modulation)),
            self.weights.index_select(1, index),
            self.num_samples.index_select(0, index),
            self.newest.index_select(0, index),
        )


class SampleMemory(NamedTuple):
    """The samples of S slots.

    The first frame's samples stay. A later sample takes a free row, or replaces the later sample of the lowest weight.
    The last row is spare: samples that are not kept are written there, and it is never read.

    Attributes:
        samples: ``(M + 1, S, C, H, W)``.
        boxes: the targets, ``(M + 1, S, 4)``, ``x y w h`` in crop pixels.
    """

    samples: Tensor
    boxes: Tensor

    def write(self, rows: Tensor, slots: Tensor, samples: Tensor, boxes: Tensor) -> None:
        """Write one sample to each of s slots.

        Args:
            rows: ``(s,)``, int64.
            slots: ``(s,)``, int64.
            samples: ``(s, C, H, W)``.
            boxes: ``(s, 4)``.
        """
        self.samples.index_put_((rows, slots), samples)
        self.boxes.index_put_((rows, slots), boxes)


class TrackerState(NamedTuple):
    """The whole state of S slots, in memory that is allocated once."""

    target: TargetState
    memory: SampleMemory

    def start(
        self, slot: int, model: tuple[Tensor, ...], modulation: Modulation, samples: Tensor, boxes: Tensor
    ) -> None:
        """Replace a slot's state by that after a first frame; the samples get equal weights.

        Args:
            slot: index of the slot.
            model: the target model's tensors, ``(1, ...)``.
            modulation: vectors ``(1, C, 1, 1)``.
            samples: of the first frame, ``(N, C, H, W)``.
            boxes: the targets in them, ``(N, 4)``.
        """
        for tensor, values in zip((*self.target.model, *self.target.modulation), (*model, *modulation), strict=True):
            tensor[slot] = values[0]
        # Samples of an earlier video have weight 0, but NaN times 0 is not 0.
        for tensor, values in zip(self.memory, (samples, boxes), strict=True):
            tensor[: len(values), slot] = values
            tensor[len(values) :, slot] = 0
        self.target.weights[: len(samples), slot] = 1 / len(samples)
        self.target.weights[len(samples) :, slot] = 0
        self.target.num_samples[slot] = len(samples)
        self.target.newest[slot] = -1


def allocate(
    slots: int, memory: int, model: tuple[Tensor, ...], modulation: Modulation, samples: Tensor, boxes: Tensor
) -> TrackerState:
    """Return an empty state of S slots; arguments as in ``TrackerState.start``, with M rows of memory."""

    def rows(tensor: Tensor, *shape: int) -> Tensor:
        return tensor.new_zeros(*shape, *tensor.shape[1:])

    counts = torch.zeros(slots, dtype=torch.int64, device=samples.device)
    return TrackerState(
        TargetState(
            type(model)(*(rows(tensor, slots) for tensor in model)),
            Modulation(*(rows(tensor, slots) for tensor in modulation)),
            samples.new_zeros(memory, slots),
            counts,
            counts - 1,
        ),
        SampleMemory(rows(samples, memory + 1, slots), rows(boxes, memory + 1, slots)),
    )


class Placement(NamedTuple):
    """Where samples are written, and the memory's state after it.

    Attributes:
        row: of each slot's sample, ``(S,)``, int64; the spare row M if it is not kept.
        weights: as ``TargetState.weights``.
        num_samples: as ``TargetState.num_samples``.
        newest: as ``TargetState.newest``.
    """

    row: Tensor
    weights: Tensor
    num_samples: Tensor
    newest: Tensor


def place_samples(
    target: TargetState, kept: Tensor, rates: Tensor, initial: int, settings: LearningSettings
) -> Placement:
    """Choose the rows of one new sample per slot, and return the weights with it.

    A new sample weighs ``1 / (1 - rate)`` times as much as the newest before it; the first one weighs ``rate`` against
    the first frame's ``1 / (1 - rate)``. Normalization lowers all others.

    Args:
        target: the state before.
        kept: whether the sample enters the memory, ``(S,)``, bool.
        rates: learning rates ``(S,)``, below 1.
        initial: number of the first frame's samples.
        settings: the memory's size, and the least total weight of the first frame's samples, which then share it
            equally.
    """
    weights, count, newest = target.weights, target.num_samples, target.newest
    size, share = settings.memory, settings.initial_share
    free = count < size
    row = torch.where(free, count, weights[initial:].argmin(dim=0) + initial)
    fresh = newest < 0
    before = weights.gather(0, newest.masked_fill(fresh, 0)[None])[0]
    lower = 1 - rates
    weight = torch.where(fresh, rates * lower, before / lower)
    updated = weights.scatter(0, row[None], weight[None])
    updated = updated / updated.sum(dim=0)
    first, later = updated[:initial], updated[initial:]
    total = first.sum(dim=0)
    low = total < share
    raised = torch.cat([first.masked_fill(low, share / initial), later / ((1 - total) / (1 - share)).clamp(min=1)])
    return Placement(
        torch.where(kept, row, size),
        torch.where(kept, raised, weights),
        count + (kept & free),
        torch.where(kept, row, newest),
    )
