"""Benchmarks on disk: a short file for each layout over one base; a path is all they need."""

from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.benchmarks import (
    Benchmark,
    BenchmarkName,
    LabeledSequence,
    open_benchmark,
    open_usable,
)
from mmdistill.toolkit.datasets.splits import Coverage, Split

__all__ = [
    "Benchmark",
    "BenchmarkName",
    "BenchmarkSequence",
    "Coverage",
    "LabeledSequence",
    "Split",
    "open_benchmark",
    "open_usable",
]
