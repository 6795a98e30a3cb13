"""Texts of scores for terminals, plots and reports: names, numbers, labels of plots, plain-text tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from mmdistill.toolkit.boxes import Array
from mmdistill.toolkit.data_issues import printable
from mmdistill.toolkit.evaluation.protocols import (
    NORMALIZED_THRESHOLDS,
    PRECISION_THRESHOLDS,
    SUCCESS_THRESHOLDS,
    ScoringProtocol,
)

DASH = "\u2013"
"""Between the ends of a range, and in place of an unknown value."""

MINUS = "\u2212"

BENCHMARK_TITLES: Mapping[str, str] = MappingProxyType(
    {
        "gtot": "GTOT",
        "rgbt210": "RGBT210",
        "rgbt234": "RGBT234",
        "lasher": "LasHeR",
        "vtuav": "VTUAV",
        "lsotb-tir": "LSOTB-TIR",
        "ptb-tir": "PTB-TIR",
        "vot": "a folder of sequences",
        "synthetic": "synthetic video",
    }
)
"""The benchmarks' own names."""

RATE_NAMES: Mapping[str, str] = MappingProxyType(
    {"PR": "precision rate", "NPR": "normalized precision rate", "SR": "success rate"}
)
"""Names of the scores, in the order of a table's columns."""


def pluralize(count: int, noun: str) -> str:
    """Return a count with its noun.

    >>> pluralize(1, "frame"), pluralize(2000, "frame")
    ('1 frame', '2,000 frames')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def signed(value: float) -> str:
    """Return a difference with its sign and one decimal; zero has no sign.

    >>> signed(1.25), signed(-3.0), signed(-0.04)
    ('+1.2', '−3.0', '0.0')
    """
    rounded = f"{abs(value):.1f}"
    return rounded if float(rounded) == 0 else f"{'+' if value > 0 else MINUS}{rounded}"


@dataclass(frozen=True)
class CurveLabels:
    """The texts of a precision, normalized precision or success plot.

    Attributes:
        rate: ``"PR"``, ``"NPR"`` or ``"SR"``.
        curve: name of the curve in ``Scores``.
        title: title of the plot.
        thresholds: values along the horizontal axis.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis.
        threshold_format: format of a threshold's condition, such as ``"IoU > {:.2f}"``.
        mark: threshold at which the rate is read, or None for a rate of the whole curve.
    """

    rate: Literal["PR", "NPR", "SR"]
    curve: Literal["precision", "normalized", "success"]
    title: str
    thresholds: Array
    x_label: str
    y_label: str
    threshold_format: str
    mark: float | None = None


def curve_labels(protocol: ScoringProtocol) -> tuple[CurveLabels, CurveLabels, CurveLabels]:
    """Return the texts of the precision, the normalized precision and the success plot."""
    pixels = protocol.precision_threshold
    at_threshold = protocol.normalized == "share"
    within = "Frames within threshold (%)"
    return (
        CurveLabels(
            "PR",
            "precision",
            f"Precision (PR at {pixels} px)",
            PRECISION_THRESHOLDS,
            "Center error threshold (pixels)",
            within,
            f"error {'<' if protocol.precision_strict else '≤'} {{:g}} px",
            pixels,
        ),
        CurveLabels(
            "NPR",
            "normalized",
            f"Normalized precision (NPR {'at 0.2' if at_threshold else 'over 0 to 0.5'})",
            NORMALIZED_THRESHOLDS,
            "Center error threshold (target sizes)",
            within,
            "error ≤ {:.2f} sizes",
            0.2 if at_threshold else None,
        ),
        CurveLabels(
            "SR",
            "success",
            f"Success (SR, {'mean of' if protocol.success == 'mean' else 'area under'} the curve)",
            SUCCESS_THRESHOLDS,
            "Overlap threshold (IoU)",
            "Frames above threshold (%)",
            "IoU > {:.2f}",
        ),
    )


def format_table(headers: Sequence[str], rows: Sequence[Sequence[str | float]], *, decimals: int = 1) -> str:
    """Return a plain-text table with text aligned left and numbers aligned right.

    >>> print(format_table(["tracker", "PR", "SR"], [["student", 46.44, 35.0], ["teacher", 100.0, 9.5]]))
    tracker     PR    SR
    -------  -----  ----
    student   46.4  35.0
    teacher  100.0   9.5

    Args:
        headers: names of the columns.
        rows: one value per column. Unprintable characters of texts are escaped.
        decimals: decimals of floats; integers have none.

    Raises:
        ValueError: a row's number of values differs from the number of headers.
    """
    for row in rows:
        if len(row) != len(headers):
            raise ValueError(f"row {list(row)}: expected {len(headers)} values, got {len(row)}")
    cells = [
        [f"{value:.{decimals}f}" if isinstance(value, float) else printable(value) for value in row] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    numeric = [bool(rows) and all(not isinstance(row[index], str) for row in rows) for index in range(len(headers))]

    def line(values: Sequence[str]) -> str:
        aligned = (
            value.rjust(width) if right else value.ljust(width)
            for value, width, right in zip(values, widths, numeric, strict=True)
        )
        return "  ".join(aligned).rstrip()

    return "\n".join([line(headers), line(["-" * width for width in widths]), *map(line, cells)])
