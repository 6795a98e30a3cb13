"""The options that choose a benchmark's sequences, shared by commands; and the printing of data issues."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmdistill.cli.arguments import ArgumentError, check_split, refuse_folder
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, Split, open_usable
from mmdistill.toolkit.evaluation.results import missing_result, sequences_with_results
from mmdistill.toolkit.sequence import TrackingSequence

logger = logging.getLogger(__name__)

MAX_DETAILS = 5
"""How many details of a data issue are printed beside scores; ``check`` prints all."""

BenchmarkChoice = Literal[BenchmarkName, "synthetic"]
"""The values of ``--benchmark``."""

OnInvalid = Literal["stop", "skip"]
"""What to do with an invalid sequence: stop with an error, or skip it and say so."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """The options of a command that choose sequences.

    Attributes:
        benchmark: The benchmark's name.
        split: The part of LasHeR.
        modality: The modality of VOT-style sequences that have only one.
        attribute_names: Names in the order of the flags, for files without names.
        on_invalid: What to do with an invalid sequence.
        partial: Whether sequences of the split may be missing.
        count: The number of synthetic sequences.
        seed: The seed of the synthetic sequences.
    """

    benchmark: BenchmarkChoice
    split: Split
    modality: Literal["rgb", "tir"]
    attribute_names: tuple[str, ...]
    on_invalid: OnInvalid
    partial: bool
    count: int
    seed: int

    def __post_init__(self) -> None:
        check_split(self.benchmark, self.split)

    @property
    def title(self) -> str:
        """The benchmark's name, with what else decides the content of its sequences."""
        detail = {"synthetic": f", seed {self.seed}", "vot": f", {self.modality}"}
        return f"{self.benchmark}{detail.get(self.benchmark, '')}"

    def check_folder(self, option: str, folder: Path | None) -> None:
        """Raise ArgumentError if the folder of an option is missing, or is given for synthetic video."""
        if self.benchmark == "synthetic":
            refuse_folder(option, folder)
        elif folder is None:
            content = "ground truth" if option == "--annotations" else "sequences"
            raise ArgumentError(f"{option}: expected the folder of the {content}")

    def open(
        self, option: str, folder: Path | None, data_issues: DataIssues, *, images: bool
    ) -> tuple[Sequence[TrackingSequence], Coverage]:
        """Return the sequences and which part of the benchmark they are.

        Args:
            option: The name of the folder's option.
            folder: The benchmark's folder, or that of its annotations; None for synthetic video.
            data_issues: Collects the data issues of the sequences.
            images: Whether frames are needed.

        Raises:
            ArgumentError: The folder is missing, or given for synthetic video.
            DataError: The folder holds no valid sequence, or not all of the split and ``partial`` is not set.
        """
        self.check_folder(option, folder)
        if self.benchmark == "synthetic":
            from mmdistill.reference.synthetic import synthetic_sequences

            return synthetic_sequences(self.count, seed=self.seed), Coverage(self.title, self.count)
        assert folder is not None
        options: dict[str, Any] = {"modality": self.modality, "split": self.split}
        options |= {"attribute_names": self.attribute_names, "unusable": self.on_invalid, "partial": self.partial}
        opened = open_usable(self.benchmark, folder, data_issues, images=images, **options)
        return opened.sequences, opened.coverage

    def select_with_results(
        self, results: Path, sequences: Sequence[TrackingSequence], coverage: Coverage
    ) -> tuple[Sequence[TrackingSequence], Coverage]:
        """Return the sequences that have a result file, and their coverage.

        Args:
            results: The folder of the result files.
            sequences: All sequences.
            coverage: Their coverage.

        Raises:
            DataError: Result files are missing and ``partial`` is not set, or all are missing.
        """
        names = [each.name for each in sequences]
        available = frozenset(sequences_with_results(results, names, coverage.others))
        missing = tuple(name for name in names if name not in available)
        if missing and not (self.partial and available):
            remedy = "; with --partial the others are scored" if available else ""
            raise DataError(f"{missing_result(results, missing)}{remedy}")
        used = [each for each in sequences if each.name in available]
        return used, replace(coverage, used=len(used), without_result=missing)


def print_data_issues(data_issues: DataIssues, limit: int | None = MAX_DETAILS, *, source: str | None = None) -> None:
    """Print data issues, if there are any.

    Args:
        data_issues: The data issues.
        limit: The most details of each kind; None for all.
        source: The name of what they were found in.
    """
    lines = data_issues.lines(limit)
    if lines:
        print(f"\nData issues{f' in {printable(source)}' if source else ''} and how they were handled:")
        print("\n".join(f"  {line}" for line in lines))


def warn_of_data_issues(data_issues: DataIssues) -> None:
    """Log data issues as warnings, one line each."""
    for line in data_issues.lines(MAX_DETAILS):
        logger.warning("%s", line)
