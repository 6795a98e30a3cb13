"""How each benchmark is scored: one rule per benchmark, as data.

The rules follow the benchmarks' own toolkits, so that figures can be compared with published ones: GTOT (Li et
al., TIP 2016), RGBT210 (ACM MM 2017), RGBT234 (Pattern Recognition 2019), LasHeR (TIP 2022), VTUAV (CVPR 2022),
LSOTB-TIR (ACM MM 2020), PTB-TIR (TMM 2020).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """How the boxes of one benchmark become PR, NPR and SR.

    A ground-truth box of NaN is a frame without a label, which no rule counts. A predicted box that is not
    finite or has no area is replaced by the one before it, as in LasHeR's toolkit.

    Attributes:
        benchmark: the benchmark's name.
        truth: whose boxes are the ground truth: ``"rgb"``'s or ``"tir"``'s, the ``"shared"`` ones of both, or
            ``"best"``: of both modalities' boxes the nearer center (PR, NPR) and the larger overlap (SR).
        aggregation: ``"sequences"`` is the mean of the sequences' figures, ``"pooled"`` counts all frames of
            all sequences alike.
        precision_threshold: PR is the share of frames whose center error is within these whole pixels (0 to 50).
        precision_strict: the error must be below its threshold; otherwise equal to it will do.
        normalized: the error is divided by the ground truth's width and height; NPR is the share of frames
            with at most 0.2 (``"share"``) or the mean of the shares at 51 thresholds 0 to 0.5 (``"mean"``).
        success: SR is the area under the curve of the share of frames whose IoU is above each of 21 thresholds
            0 to 1: the ``"mean"`` of its points or by ``"trapezoids"``. A perfect tracker gets 95.24 or 97.5.
        first_frame: the first box counts ``"as_predicted"`` or as the ``"truth"`` that the tracker was given.
        invalid_truth: a ground-truth box is taken ``"as_is"``, or is ``"left_out"`` when it has no area, or,
            when any of x, y, w, h is zero or less, is a ``"precision_hit"``: PR and NPR count the frame as a
            hit and SR as a miss. That is what LasHeR's toolkit does by setting error and IoU to -1.
        round_predictions: round predicted boxes to whole pixels first; some published GTOT figures did.
    """

    benchmark: str
    truth: Literal["shared", "rgb", "tir", "best"] = "shared"
    aggregation: Literal["sequences", "pooled"] = "sequences"
    precision_threshold: int = 20
    precision_strict: bool = False
    normalized: Literal["share", "mean"] = "share"
    success: Literal["mean", "trapezoids"] = "mean"
    first_frame: Literal["as_predicted", "truth"] = "truth"
    invalid_truth: Literal["as_is", "left_out", "precision_hit"] = "left_out"
    round_predictions: bool = False

    @property
    def description(self) -> str:
        """The rule in one line, for reports."""
        truth = {"best": "the better of both modalities' boxes", "shared": "one box for both modalities"}
        invalid = {
            "as_is": "taken as they are",
            "left_out": "left out where they have no area",
            "precision_hit": "a hit for PR and NPR and a miss for SR where any of x, y, w, h <= 0",
        }
        parts = [
            "mean of sequences" if self.aggregation == "sequences" else "pooled over all frames",
            f"PR: center error {'<' if self.precision_strict else '<='} {self.precision_threshold} px",
            "NPR: " + ("normalized error <= 0.2" if self.normalized == "share" else "mean over 51 thresholds 0 to 0.5"),
            f"SR: {'mean' if self.success == 'mean' else 'area by trapezoids'} over 21 thresholds",
            f"ground truth: {truth.get(self.truth, f'{self.truth.upper()} boxes')}, {invalid[self.invalid_truth]}",
            f"first frame: {'as predicted' if self.first_frame == 'as_predicted' else 'ground truth, counted'}",
        ]
        if self.round_predictions:
            parts.append("predictions rounded to whole pixels")
        return "; ".join(parts)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        rule.benchmark: rule
        for rule in (
            Rule(
                "gtot",
                truth="best",
                aggregation="pooled",
                precision_threshold=5,
                precision_strict=True,
                success="trapezoids",
                first_frame="as_predicted",
                invalid_truth="as_is",
            ),
            Rule("rgbt210", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            Rule("rgbt234", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            Rule("lasher", invalid_truth="precision_hit"),
            # Scored as RGBT234 on its labeled frames; not compared with VTUAV's own toolkit.
            Rule("vtuav", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            Rule("lsotb-tir", truth="tir", normalized="mean", invalid_truth="precision_hit"),
            Rule("ptb-tir", truth="tir", invalid_truth="precision_hit"),
            Rule("vot"),
            Rule("synthetic"),
        )
    }
)
"""The rule of each benchmark, by its name."""
