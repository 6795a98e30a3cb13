"""Benchmarks on disk: a short file for each layout over one base; a path is all they need."""

from mmdistill.reference.data.benchmarks.opening import (
    Benchmark,
    BenchmarkName,
    LabelledSequence,
    open_benchmark,
    open_usable,
)
from mmdistill.reference.data.benchmarks.sequence import BenchmarkSequence

__all__ = ["Benchmark", "BenchmarkName", "BenchmarkSequence", "LabelledSequence", "open_benchmark", "open_usable"]
