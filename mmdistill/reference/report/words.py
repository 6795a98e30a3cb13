"""Wording that the parts of a report share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DASH, MINUS = "\u2013", "\u2212"
"""Between two ends, and where a figure is not known; before a figure below zero."""

TITLES: Mapping[str, str] = MappingProxyType(
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
"""What benchmarks call themselves."""

FIGURES: Mapping[str, str] = MappingProxyType(
    {"PR": "precision rate", "NPR": "normalised precision rate", "SR": "success rate"}
)
"""What the figures are called, in the order of columns."""


def several(count: int, what: str) -> str:
    """Return a count of things.

    >>> several(1, "frame"), several(2000, "frame")
    ('1 frame', '2,000 frames')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def signed(value: float) -> str:
    """Return a difference with its sign, a true minus, and none for zero.

    >>> signed(1.25), signed(-3.0), signed(-0.04)
    ('+1.2', '−3.0', '0.0')
    """
    rounded = f"{abs(value):.1f}"
    return rounded if float(rounded) == 0 else f"{'+' if value > 0 else MINUS}{rounded}"
