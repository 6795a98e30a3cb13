"""Scores any tracker's result files by the benchmarks' own protocols, without PyTorch.

From boxes to PR, NPR and SR, in percent:

>>> import numpy as np
>>> from mmdistill.toolkit.evaluation import PROTOCOLS, score_sequence
>>> ground_truth = np.array([[10.0, 10, 40, 20], [14, 10, 40, 20], [18, 10, 40, 20], [22, 10, 40, 20]])
>>> predicted = ground_truth + [[0, 0, 0, 0], [2, 0, 0, 0], [10, 5, 0, 0], [60, 0, 0, 0]]
>>> score_sequence(predicted, [ground_truth], PROTOCOLS["lasher"]).rates()
{'PR': 75.0, 'NPR': 50.0, 'SR': 55.9524}

From files: ``read_results`` reads a tracker's folder, ``score_benchmark`` scores several sequences, overall and by
attribute, and ``score_sequences`` scores sequences of ``mmdistill.toolkit.datasets``. ``plot_curves``,
``plot_attributes``, ``save_scores`` and ``save_curves`` write the scores, ``export_results`` writes boxes for the
benchmarks' own toolkits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmdistill.toolkit.evaluation.exporters import RESULT_FORMATS, export_results
from mmdistill.toolkit.evaluation.formatting import format_table
from mmdistill.toolkit.evaluation.metrics import (
    center_errors,
    ground_truth_of,
    normalized_center_errors,
    normalized_precision_curve,
    overlaps,
    precision_curve,
    score_benchmark,
    score_sequence,
    score_sequences,
    success_curve,
)
from mmdistill.toolkit.evaluation.protocols import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    PROTOCOLS,
    SUCCESS_THRESHOLDS,
    ScoringProtocol,
)
from mmdistill.toolkit.evaluation.results import read_benchmark_results, read_results
from mmdistill.toolkit.evaluation.scores import BenchmarkScores, Scores, read_curves, save_curves, save_scores

if TYPE_CHECKING:
    from mmdistill.toolkit.evaluation.plots import plot_attributes, plot_curves

__all__ = [
    "NORMALIZED_THRESHOLDS",
    "PRECISION_THRESHOLDS",
    "PROTOCOLS",
    "RESULT_FORMATS",
    "SUCCESS_THRESHOLDS",
    "BenchmarkScores",
    "Scores",
    "ScoringProtocol",
    "center_errors",
    "export_results",
    "format_table",
    "ground_truth_of",
    "normalized_center_errors",
    "normalized_precision_curve",
    "overlaps",
    "plot_attributes",
    "plot_curves",
    "precision_curve",
    "read_benchmark_results",
    "read_curves",
    "read_results",
    "save_curves",
    "save_scores",
    "score_benchmark",
    "score_sequence",
    "score_sequences",
    "success_curve",
]


def __getattr__(name: str) -> Any:
    """Import the plots when they are used, because Matplotlib is slow to import."""
    if name in ("plot_attributes", "plot_curves"):
        from mmdistill.toolkit.evaluation import plots

        return getattr(plots, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
