"""From a benchmark's name and a folder to its sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import Copy
from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.folder_sequence import STRAY, FolderSequence
from mmdistill.toolkit.datasets.lasher import lasher
from mmdistill.toolkit.datasets.layout import LISTS, Layout, SequenceFiles, other_texts, search, stray_entries
from mmdistill.toolkit.datasets.layouts import (
    GTOT,
    LSOTB_TIR,
    LSOTB_TIR_TRAINING,
    PTB_TIR,
    RGBT210,
    RGBT234,
    VTUAV,
    vot,
)
from mmdistill.toolkit.datasets.splits import Coverage, Split
from mmdistill.toolkit.io import read_text
from mmdistill.toolkit.sequence import Boxes, TrackingSequence

BenchmarkName = Literal["gtot", "rgbt210", "rgbt234", "lasher", "vtuav", "lsotb-tir", "ptb-tir", "vot"]

UNUSABLE = "sequences that can't be used are left out"
OTHER_TEXTS = "text files beside the sequences that hold no boxes, passed over"


class LabeledSequence(TrackingSequence, Protocol):
    """A sequence with all ground truth that its benchmark scores by."""

    @property
    def truths(self) -> tuple[Boxes, ...]:
        """The ground truth ``(T, 4)``: one, or RGB's and TIR's; NaN where a frame has no label."""
        ...


@dataclass(frozen=True)
class Benchmark:
    """What was read of a benchmark.

    Attributes:
        layout: how it lies.
        place: where its sequences, or their annotations, lie.
        files: those of all sequences.
        sequences: all that can be used, in natural order of their names.
        data_issues: what is odd about the copy.
        coverage: how many sequences are used, of how many by the benchmark's publication.
    """

    layout: Layout
    place: Path
    files: list[SequenceFiles]
    sequences: list[LabeledSequence]
    data_issues: DataIssues
    coverage: Coverage


def open_benchmark(
    name: BenchmarkName,
    root: str | Path,
    *,
    images: bool = True,
    modality: Literal["rgb", "tir"] = "rgb",
    split: Split = "test",
    attribute_names: Sequence[str] = (),
    unusable: Literal["stop", "skip"] = "stop",
    partial: bool = False,
) -> Benchmark:
    """Read a copy of a benchmark.

    Args:
        name: which benchmark.
        root: its folder, or one up to two levels above, or a list of its sequences in such a folder.
        images: whether frames are wanted; for scoring, annotations are enough.
        modality: what the images of single-modality VOT-style sequences are.
        split: which part of LasHeR.
        attribute_names: in the order of the files' flags, for benchmarks whose files don't say them.
        unusable: what a sequence that can't be used is: an error, or left out and noted as odd.
        partial: whether a copy of LasHeR may have other sequences than the split has by the official list and count.
            The other benchmarks have no list of names to compare with: ``coverage`` says their count.

    Raises:
        DataError: there are no sequences, several folders hold some, one can't be used, or they are not the split's.
    """
    layout = choose_layout(name, modality=modality, split=split)
    data_issues = DataIssues()
    root = Path(root)
    if root.is_file() and root.stem.casefold() in LISTS:
        root = root.parent
    place, found = search(layout, root, images=images)
    files, coverage = _select(layout, place, found, root, data_issues)
    if not files:
        outside = ", ".join(coverage.others[:3])
        raise DataError(f"{root}: {coverage.line}; expected sequences of {layout.title}, got others such as {outside}")
    if layout.select is not None and not (partial or coverage.matches_split):
        raise DataError(f"{root}: {coverage.line}; with --partial what is there is used")
    for entry in stray_entries((root, place)):
        data_issues.add(STRAY, entry.name)
    for text in other_texts(place):
        data_issues.add(OTHER_TEXTS, text.name)
    copy = Copy(root, place, [each.name for each in files], attribute_names, data_issues)
    flags = {} if layout.attributes is None else layout.attributes(copy)
    sequences: list[LabeledSequence] = []
    for each in files:
        try:
            if images and name == "vot":
                sequences.append(FolderSequence(each.truths[0].parent, modality=modality))
            else:
                sequence = BenchmarkSequence(
                    each, attributes=flags.get(each.name), images=images, data_issues=data_issues
                )
                sequences.append(sequence)
        except DataError as error:
            if unusable == "stop":
                raise
            data_issues.add(UNUSABLE, str(error))
    for absent in sorted(_listed(copy, layout) - set(copy.sequences)):
        data_issues.add(f"sequences that {layout.listed} lists, but that are not there", absent)
    names = {each.name for each in sequences}
    coverage = replace(
        coverage, used=len(sequences), unusable=tuple(each.name for each in files if each.name not in names)
    )
    return Benchmark(layout, place, files, sequences, data_issues, coverage)


def _select(
    layout: Layout, place: Path, found: list[SequenceFiles], root: Path, data_issues: DataIssues
) -> tuple[list[SequenceFiles], Coverage]:
    if layout.select is None:
        return found, Coverage(layout.benchmark, len(found), official=layout.count)
    return layout.select((place, found), root, data_issues)


def open_usable(
    name: BenchmarkName, root: str | Path, data_issues: DataIssues, *, images: bool, **options: Any
) -> Benchmark:
    """Return a copy of a benchmark with at least one sequence that can be used.

    Args:
        name: as ``open_benchmark`` takes it.
        root: as there.
        data_issues: where is noted what is odd.
        images: as there.
        options: the others that it takes.

    Raises:
        DataError: as there, or none can be used.
    """
    opened = open_benchmark(name, root, images=images, **options)
    data_issues.extend(opened.data_issues)
    if not opened.sequences:
        raise DataError(
            f"{opened.place}: none of {len(opened.files)} sequences can be used; `mmdistill check` lists why"
        )
    return opened


def _listed(copy: Copy, layout: Layout) -> set[str]:
    path = copy.find(layout.listed) if layout.listed else None
    return set() if path is None else {line.strip() for line in read_text(path).splitlines() if line.strip()}


def choose_layout(name: BenchmarkName, *, modality: Literal["rgb", "tir"] = "rgb", split: Split = "test") -> Layout:
    """Return how a benchmark lies on disk; arguments as in ``open_benchmark``."""
    if name == "vot":
        return vot(modality)
    if name == "lasher":
        return lasher(split)
    if name == "lsotb-tir" and split == "train":
        return LSOTB_TIR_TRAINING
    return {each.benchmark: each for each in (GTOT, RGBT210, RGBT234, VTUAV, LSOTB_TIR, PTB_TIR)}[name]
