"""Benchmarks on disk: a short file for each layout over one base; a path is all they need."""

from mmdistill.reference.data.benchmarks.opening import (
    Benchmark,
    BenchmarkName,
    LabelledSequence,
    open_benchmark,
    open_usable,
)
from mmdistill.reference.data.benchmarks.sequence import BenchmarkSequence
from mmdistill.reference.data.benchmarks.splits import Coverage, Split

__all__ = [
    "Benchmark",
    "BenchmarkName",
    "BenchmarkSequence",
    "Coverage",
    "LabelledSequence",
    "Split",
    "open_benchmark",
    "open_usable",
]
