"""Where the sequences are from that results are compared with: a benchmark's copy on disk, or synthetic video.

What was odd, as commands print it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from mmdistill.reference.synthetic import synthetic_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets import BenchmarkName, Coverage, Split, open_usable
from mmdistill.toolkit.datasets.checks import CheckReport, check_benchmark
from mmdistill.toolkit.evaluation.results import missing_result, sequences_with_results
from mmdistill.toolkit.sequence import TrackingSequence

logger = logging.getLogger(__name__)

SHOWN = 5
"""How many oddities of a kind are printed beside figures; ``--check`` prints all."""


def print_data_issues(data_issues: DataIssues, most: int | None = SHOWN, *, whose: str | None = None) -> None:
    """Print what was odd, at most so many details of a kind, or nothing where nothing was."""
    lines = data_issues.lines(most)
    if lines:
        print(f"\nData issues{f' in {printable(whose)}' if whose else ''} and how they were handled:")
        print("\n".join(f"  {line}" for line in lines))


def warn_of_data_issues(data_issues: DataIssues, most: int = SHOWN) -> None:
    """Log what was odd as warnings, a line each, at most so many details of a kind."""
    for line in data_issues.lines(most):
        logger.warning("%s", line)


BenchmarkChoice = Literal[BenchmarkName, "synthetic"]
"""What ``--benchmark`` may be."""

Unusable = Literal["stop", "skip"]
"""What a sequence that can't be used is: an error, or left out and said."""


@dataclass(frozen=True)
class BenchmarkSource:
    """Where the sequences are from, as a command's arguments say it.

    Attributes:
        benchmark: whose layout.
        annotations: folder of the ground truth.
        root: folder of the benchmark, images and all.
        split: which part of LasHeR.
        modality: what the images of single-modality VOT-style sequences are.
        attribute_names: in the order of the flags, where the files don't say them.
        unusable: what a sequence that can't be used is.
        partial: whether sequences of the split may be missing.
        count: how many synthetic sequences.
        seed: of the synthetic sequences.
    """

    benchmark: BenchmarkChoice
    annotations: Path | None
    root: Path | None
    split: Split
    modality: Literal["rgb", "tir"]
    attribute_names: tuple[str, ...]
    unusable: Unusable
    partial: bool
    count: int
    seed: int

    def __post_init__(self) -> None:
        refuse_split(self.benchmark, self.split)

    def sequences(
        self, data_issues: DataIssues, *, images: bool, results: Path | None = None
    ) -> tuple[Sequence[TrackingSequence], Coverage]:
        """Return the sequences, with or without images, and what they cover; note what is odd about them.

        Args:
            data_issues: where that is noted.
            images: whether frames are wanted.
            results: a folder of results, where only sequences that have one there are wanted.

        Raises:
            DataError: the folder is not given, is one too many, or holds no sequence that can be used; sequences of
                the split, or their results, are missing though ``partial`` is not set.
        """
        if self.benchmark == "synthetic":
            refuse_folders(self.annotations, self.root)
            sequences: Sequence[TrackingSequence] = synthetic_sequences(self.count, seed=self.seed)
            coverage = Coverage(self.title, len(sequences))
        else:
            options = {**self._options(), "on_invalid": self.unusable, "partial": self.partial}
            opened = open_usable(self._name, self._folder(images), data_issues, images=images, **options)
            sequences, coverage = opened.sequences, opened.coverage
        return (sequences, coverage) if results is None else self._with_results(results, sequences, coverage)

    def _with_results(
        self, results: Path, sequences: Sequence[TrackingSequence], coverage: Coverage
    ) -> tuple[Sequence[TrackingSequence], Coverage]:
        names = [each.name for each in sequences]
        found = frozenset(sequences_with_results(results, names, coverage.outside_split))
        missing = tuple(name for name in names if name not in found)
        if missing and not (self.partial and found):
            remedy = "; with --partial the others are scored" if found else ""
            raise DataError(f"{missing_result(results, missing)}{remedy}")
        used = [each for each in sequences if each.name in found]
        return used, replace(coverage, used=len(used), without_result=missing)

    @property
    def title(self) -> str:
        """Which sequences these are, as far as their names do not tell."""
        of = {"synthetic": f", seed {self.seed}", "vot": f", {self.modality}"}
        return f"{self.benchmark}{of.get(self.benchmark, '')}"

    def check(self, *, decode: bool) -> None:
        """Print what is missing or odd.

        Raises:
            DataError: a sequence can't be used, or sequences of the split are missing though ``partial`` is not set.
        """
        if self.benchmark == "synthetic":
            raise DataError("--check: there is nothing on disk to check of synthetic sequences")
        images = self.annotations is None
        folder = self._folder(images)
        checked = check_benchmark(self._name, folder, images=images, decode=decode, **self._options())
        print_checked(checked, folder, "sequences")
        coverage = checked.coverage
        if coverage is not None and coverage.split and not (self.partial or coverage.matches_split):
            raise DataError(f"{folder}: {coverage.summary}; with --partial what is there is scored")

    @property
    def _name(self) -> BenchmarkName:
        return cast(BenchmarkName, self.benchmark)

    def _folder(self, images: bool) -> Path:
        if images and self.annotations is not None:
            raise DataError("--annotations: a run takes the ground truth from --root as well; leave it out")
        folder = self.root if images else self.annotations or self.root
        if folder is None:
            wanted = "--root: expected the folder of the sequences"
            raise DataError(wanted if images else "--annotations: expected the folder of the ground truth")
        return folder

    def _options(self) -> dict[str, Any]:
        return {"modality": self.modality, "split": self.split, "attribute_names": self.attribute_names}


def print_checked(checked: CheckReport, folder: Path | str, what: str) -> None:
    """Print what a walk of a folder found, and raise DataError if some of what it holds can't be used."""
    if checked.coverage is not None:
        print(checked.coverage.summary)
    print_data_issues(checked.data_issues, most=None)
    print(f"{printable(folder)}: {checked.usable:,} of {checked.sequences:,} {what} can be used")
    if checked.usable < checked.sequences:
        raise DataError(f"{folder}: {checked.sequences - checked.usable:,} {what} can't be used, as listed")


def refuse_split(benchmark: str, split: Split) -> None:
    """Raise DataError if a split is given for a benchmark that has no splits to choose from."""
    if split != "test" and benchmark != "lasher":
        raise DataError(f"--split: only lasher has splits to choose from, not {benchmark}; leave it out, got {split}")


def refuse_folders(annotations: Path | None, root: Path | None) -> None:
    """Raise DataError if a folder is given for synthetic video, which has none."""
    for option, folder in (("--annotations", annotations), ("--root", root)):
        if folder is not None:
            raise DataError(f"{option}: synthetic video comes without a folder; leave it out, got {folder}")
