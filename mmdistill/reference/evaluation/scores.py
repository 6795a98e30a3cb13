"""What a tracker scores: curves, and the figures that a rule reads off them, of a sequence or of several together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdistill.reference.data.benchmarks.splits import Coverage
from mmdistill.reference.data.boxes import Array
from mmdistill.reference.evaluation.rules import Rule
from mmdistill.reference.files import write_text

PRECISION_THRESHOLDS = np.linspace(0, 50, 51)
"""Centre errors in pixels, the horizontal axis of precision plots."""

NORMALISED_THRESHOLDS = np.linspace(0, 0.5, 51)
"""Centre errors in target sizes, the horizontal axis of normalised precision plots."""

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps (IoU), the horizontal axis of success plots."""

_NORMALISED_RATE_AT = 20  # the index of 0.2


@dataclass(frozen=True)
class Scores:
    """What a tracker scores on a sequence, or on several together; everything in percent.

    Attributes:
        PR: precision rate.
        NPR: normalised precision rate.
        SR: success rate.
        precision: the curve over ``PRECISION_THRESHOLDS``, ``(51,)``.
        normalised: the curve over ``NORMALISED_THRESHOLDS``, ``(51,)``.
        success: the curve over ``SUCCESS_THRESHOLDS``, ``(21,)``.
        frames: how many frames were counted.
    """

    PR: float
    NPR: float
    SR: float
    precision: Array
    normalised: Array
    success: Array
    frames: int

    def figures(self) -> dict[str, float]:
        """Return PR, NPR and SR by name."""
        return {"PR": round(self.PR, 4), "NPR": round(self.NPR, 4), "SR": round(self.SR, 4)}


@dataclass(frozen=True)
class BenchmarkScores:
    """What a tracker scores on a benchmark.

    Attributes:
        rule: the rule it was scored by.
        overall: all sequences together.
        sequences: each sequence by name.
        attributes: for each attribute the sequences that have it on any frame, together.
        having: for each attribute those sequences' names.
    """

    rule: Rule
    overall: Scores
    sequences: dict[str, Scores]
    attributes: dict[str, Scores]
    having: dict[str, tuple[str, ...]]

    def to_json(self, coverage: Coverage | None = None) -> str:
        """Return benchmark, what is scored, rule, overall, sequences and attributes as JSON; figures in percent."""
        content = {
            "benchmark": self.rule.benchmark,
            **({} if coverage is None else coverage.to_json()),
            "rule": self.rule.description,
            "overall": self.overall.figures(),
            "sequences": {name: scores.figures() for name, scores in self.sequences.items()},
            "attributes": {name: scores.figures() for name, scores in self.attributes.items()},
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def save_scores(path: str | Path, scores: BenchmarkScores, coverage: Coverage | None = None) -> None:
    """Write ``scores.to_json(coverage)`` to ``path``, whole or not at all."""
    write_text(path, scores.to_json(coverage))


def gather(sequences: Mapping[str, Scores], having: Mapping[str, Sequence[str]], rule: Rule) -> BenchmarkScores:
    """Put the scores of sequences together.

    Args:
        sequences: by name, at least one.
        having: for each attribute the names of the sequences that have it; others than the given are ignored, and so
            is an attribute that none of them has.
        rule: how all of them were scored.
    """
    present = {attribute: tuple(name for name in names if name in sequences) for attribute, names in having.items()}
    present = {attribute: names for attribute, names in present.items() if names}
    return BenchmarkScores(
        rule=rule,
        overall=_together(list(sequences.values()), rule),
        sequences=dict(sequences),
        attributes={
            attribute: _together([sequences[name] for name in names], rule) for attribute, names in present.items()
        },
        having=present,
    )


def scores_of_curves(*, precision: Array, normalised: Array, success: Array, frames: int, rule: Rule) -> Scores:
    """Read the three figures off the curves, which are in percent."""
    between = (success[1:] + success[:-1]) / 2
    return Scores(
        PR=float(precision[rule.precision_threshold]),
        NPR=float(normalised[_NORMALISED_RATE_AT] if rule.normalised == "share" else normalised.mean()),
        SR=float(success.mean() if rule.success == "mean" else between.mean()),
        precision=precision,
        normalised=normalised,
        success=success,
        frames=frames,
    )


def _together(group: list[Scores], rule: Rule) -> Scores:
    """Aggregate sequences; curves and figures are linear in each other, so that averaging curves is enough."""
    frames = [scores.frames for scores in group]
    weights = frames if rule.aggregation == "pooled" else None
    return scores_of_curves(
        precision=np.average([scores.precision for scores in group], axis=0, weights=weights),
        normalised=np.average([scores.normalised for scores in group], axis=0, weights=weights),
        success=np.average([scores.success for scores in group], axis=0, weights=weights),
        frames=sum(frames),
        rule=rule,
    )
