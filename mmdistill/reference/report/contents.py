"""What a report is made of, read and scored, before anything of it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mmdistill.reference.data.sequence import Boxes, FramePair
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.evaluation.scores import BenchmarkScores
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.report.cost import Cost


@dataclass(frozen=True)
class Truth:
    """What is known of a sequence apart from any tracker.

    Attributes:
        boxes: the ground truth ``(T, 4)``; of RGB and of TIR where the rule takes the better of both.
        attributes: for each attribute a flag per frame, or one for the sequence.
        frame: returns the images of frame ``index``, from 0; None where there are no images.
    """

    boxes: tuple[Boxes, ...]
    attributes: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    frame: Callable[[int], FramePair] | None = None


@dataclass(frozen=True)
class Tracker:
    """One of the trackers compared.

    Attributes:
        name: unique in the report.
        scores: on the sequences that all trackers have.
        boxes: what it predicted, as its rule counts it, ``(T, 4)`` by sequence; empty where only curves were read.
        missing: the sequences that others have and it has not.
        cost: of its network, where its weights are known.
        frames_per_second: measured while it tracked; None where nobody did.
        oddities: what was odd about its results.
    """

    name: str
    scores: BenchmarkScores
    boxes: Mapping[str, Boxes] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    cost: Cost | None = None
    frames_per_second: float | None = None
    oddities: Oddities = field(default_factory=Oddities)


@dataclass(frozen=True)
class Contents:
    """All of a report.

    Attributes:
        trackers: in the order given, which decides their colours.
        truths: by sequence; empty where only curves were read.
        total: how many sequences there are, with those that not all trackers have.
        oddities: what was odd about the ground truth.
    """

    trackers: tuple[Tracker, ...]
    truths: Mapping[str, Truth]
    total: int
    oddities: Oddities = field(default_factory=Oddities)

    @property
    def rule(self) -> Rule:
        """What all trackers are scored by."""
        return self.trackers[0].scores.rule

    @property
    def sequences(self) -> tuple[str, ...]:
        """The names of the sequences that are compared."""
        return tuple(self.trackers[0].scores.sequences)
