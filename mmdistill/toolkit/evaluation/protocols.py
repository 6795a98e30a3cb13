"""Scoring protocols: how each benchmark turns boxes into PR, NPR and SR, as data.

The protocols follow the benchmarks' own toolkits, so that scores compare with published ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np

PRECISION_THRESHOLDS = np.linspace(0, 50, 51)
"""Center errors in pixels, the horizontal axis of precision plots."""

NORMALIZED_THRESHOLDS = np.linspace(0, 0.5, 51)
"""Center errors in target sizes, the horizontal axis of normalized precision plots."""

SUCCESS_THRESHOLDS = np.linspace(0, 1, 21)
"""Overlaps (IoU), the horizontal axis of success plots."""


@dataclass(frozen=True)
class ScoringProtocol:
    """How a benchmark's boxes become PR, NPR and SR.

    No protocol counts frames without a label, whose ground truth is NaN. A predicted box that is not finite or has no
    area is replaced by the box before it, as in LasHeR's toolkit.

    Attributes:
        benchmark: the benchmark's name.
        truth: which boxes are the ground truth: ``"rgb"``, ``"tir"``, ``"shared"`` (one box for both modalities), or
            ``"best"``: in each frame the modality with the smaller center error (PR, NPR) and with the larger IoU (SR).
        aggregation: ``"sequences"`` averages the sequences' scores, ``"pooled"`` weights all frames alike.
        precision_threshold: center error at which PR is read, whole pixels from 0 to 50.
        precision_strict: whether the center error must be below the threshold. If not, equal to it is enough.
        normalized: NPR is the ``"share"`` of frames with a normalized center error of at most 0.2, or the ``"mean"``
            of the shares at 51 thresholds from 0 to 0.5.
        success: SR is the ``"mean"`` of the success curve's 21 points, or its area by ``"trapezoids"``. A perfect
            tracker gets 95.24 or 97.5.
        first_frame: the first box counts ``"as_predicted"``, or is replaced by the ``"truth"`` and counted.
        invalid_truth: ground-truth boxes without area are taken ``"as_is"`` or ``"left_out"``. ``"precision_hit"``:
            where any of x, y, w, h is zero or less, the frame is a hit for PR and NPR and a miss for SR. LasHeR's
            toolkit does this by setting error and IoU to -1.
        round_predictions: whether predicted boxes are rounded to whole pixels first, as for some published GTOT scores.
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
        """The protocol in one line."""
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


PROTOCOLS: Mapping[str, ScoringProtocol] = MappingProxyType(
    {
        protocol.benchmark: protocol
        for protocol in (
            # Li et al., TIP 2016, https://doi.org/10.1109/TIP.2016.2614135
            ScoringProtocol(
                "gtot",
                truth="best",
                aggregation="pooled",
                precision_threshold=5,
                precision_strict=True,
                success="trapezoids",
                first_frame="as_predicted",
                invalid_truth="as_is",
            ),
            ScoringProtocol("rgbt210", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            # Li et al., Pattern Recognition 2019, https://arxiv.org/abs/1805.08982
            ScoringProtocol("rgbt234", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            # Li et al., TIP 2022, https://arxiv.org/abs/2104.13202
            ScoringProtocol("lasher", invalid_truth="precision_hit"),
            # As RGBT234, on labeled frames; not compared with VTUAV's own toolkit.
            ScoringProtocol("vtuav", truth="best", first_frame="as_predicted", invalid_truth="as_is"),
            ScoringProtocol("lsotb-tir", truth="tir", normalized="mean", invalid_truth="precision_hit"),
            ScoringProtocol("ptb-tir", truth="tir", invalid_truth="precision_hit"),
            ScoringProtocol("vot"),
            ScoringProtocol("synthetic"),
        )
    }
)
"""The scoring protocol of each benchmark, by the benchmark's name."""
