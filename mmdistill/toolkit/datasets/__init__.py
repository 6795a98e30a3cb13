"""Tracking benchmarks and image pairs on disk.

Open a benchmark by its name and folder, and read a sequence::

    from mmdistill.toolkit.datasets import open_benchmark

    benchmark = open_benchmark("rgbt234", "data/RGBT234")
    sequence = benchmark.sequences[0]
    rgb, tir = sequence.frame(0)  # images (H, W, 3)
    print(benchmark.coverage.summary, sequence.name, sequence.boxes[0])  # x y w h

``benchmark.data_issues`` lists what was missing or malformed and how it was handled. ``read_sequences`` reads folders
of sequences of your own, ``open_pairs`` image pairs without labels, and ``check_benchmark`` checks a download.
"""

from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.benchmarks import (
    Benchmark,
    BenchmarkName,
    LabeledSequence,
    open_benchmark,
    open_usable,
)
from mmdistill.toolkit.datasets.checks import CheckReport, check_benchmark, check_pairs
from mmdistill.toolkit.datasets.coverage import Coverage, Split
from mmdistill.toolkit.datasets.folder_sequence import FolderSequence, read_sequences, write_sequence
from mmdistill.toolkit.datasets.image_pairs import Pairs, open_pairs

__all__ = [
    "Benchmark",
    "BenchmarkName",
    "BenchmarkSequence",
    "CheckReport",
    "Coverage",
    "FolderSequence",
    "LabeledSequence",
    "Pairs",
    "Split",
    "check_benchmark",
    "check_pairs",
    "open_benchmark",
    "open_pairs",
    "open_usable",
    "read_sequences",
    "write_sequence",
]
