"""Opens a benchmark: reads its sequences, attributes and coverage from a folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.attributes import BenchmarkFolder
from mmdistill.toolkit.datasets.benchmark_layouts import (
    GTOT,
    LSOTB_TIR,
    LSOTB_TIR_TRAINING,
    PTB_TIR,
    RGBT210,
    RGBT234,
    VTUAV,
    vot_layout,
)
from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.coverage import Coverage, Split
from mmdistill.toolkit.datasets.folder_sequence import FolderSequence
from mmdistill.toolkit.datasets.lasher import lasher_layout
from mmdistill.toolkit.datasets.sequence_search import (
    LIST_FILES,
    Layout,
    SequenceFiles,
    list_ignored,
    list_other_texts,
    search,
)
from mmdistill.toolkit.image_files import IGNORED
from mmdistill.toolkit.io import read_text
from mmdistill.toolkit.sequence import Boxes, TrackingSequence

BenchmarkName = Literal["gtot", "rgbt210", "rgbt234", "lasher", "vtuav", "lsotb-tir", "ptb-tir", "vot"]

UNUSABLE = "unusable sequences, left out"
OTHER_TEXTS = "text files without boxes beside the sequences, skipped"


class LabeledSequence(TrackingSequence, Protocol):
    """A sequence with all ground truth for scoring."""

    @property
    def truths(self) -> tuple[Boxes, ...]:
        """The ground truth ``(T, 4)``: one, or RGB's and TIR's; NaN where a frame has no label."""
        ...


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that was read from a folder.

    Attributes:
        layout: layout of its files.
        folder: folder of its sequences or their annotations.
        files: files of all sequences.
        sequences: usable sequences, in natural order of their names.
        data_issues: issues of the data that were handled.
        coverage: comparison of the sequences in use with the official ones.
    """

    layout: Layout
    folder: Path
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
    on_invalid: Literal["stop", "skip"] = "stop",
    partial: bool = False,
    alignment: Alignment | None = None,
) -> Benchmark:
    """Read a benchmark from a folder.

    Args:
        name: name of the benchmark.
        root: its folder, or a folder up to two levels above, or a list of its sequences in such a folder.
        images: whether frames are needed; annotations are enough for scoring.
        modality: modality of the images of VOT-style sequences of one modality.
        split: split of LasHeR, or ``train`` for LSOTB-TIR's training part.
        attribute_names: names of the attributes in the order of the flags, for benchmarks whose files lack them.
        on_invalid: ``stop`` raises the error of an unusable sequence, ``skip`` leaves it out and adds a data issue.
        partial: accept a copy of LasHeR whose sequences differ from the official split. The other benchmarks have no
            official list of names; ``coverage`` compares their number.
        alignment: how the cameras of VOT-style sequences agree; other benchmarks are aligned.

    Raises:
        DataError: no folder or several folders have sequences, a sequence is unusable, or the split differs.
    """
    if alignment is not None and name != "vot":
        raise DataError(f"--align: expected sequence folders of your own (vot), {name} is aligned already")
    layout = choose_layout(name, modality=modality, split=split)
    data_issues = DataIssues()
    root = Path(root)
    if root.is_file() and root.stem.casefold() in LIST_FILES:
        root = root.parent
    folder, found = search(layout, root, images=images)
    if layout.select is None:
        files, coverage = found, Coverage(layout.benchmark, len(found), official_count=layout.count)
    else:
        files, coverage = layout.select((folder, found), root, data_issues)
    if not files:
        others = ", ".join(coverage.outside_split[:3])
        raise DataError(f"{root}: {coverage.summary}; expected sequences of {layout.title}, got {others}")
    if layout.select is not None and not (partial or coverage.matches_split):
        raise DataError(f"{root}: {coverage.summary}; --partial uses what is there")
    for entry in list_ignored((root, folder)):
        data_issues.add(IGNORED, entry.name)
    for text in list_other_texts(folder):
        data_issues.add(OTHER_TEXTS, text.name)
    benchmark_folder = BenchmarkFolder(root, folder, [each.name for each in files], attribute_names, data_issues)
    flags = {} if layout.attributes is None else layout.attributes(benchmark_folder)
    sequences: list[LabeledSequence] = []
    for each in files:
        try:
            if images and name == "vot":
                sequences.append(FolderSequence(each.annotations[0].parent, modality=modality, alignment=alignment))
            else:
                sequence = BenchmarkSequence(
                    each, attributes=flags.get(each.name), images=images, data_issues=data_issues
                )
                sequences.append(sequence)
        except DataError as error:
            if on_invalid == "stop":
                raise
            data_issues.add(UNUSABLE, str(error))
    for missing in sorted(_read_name_list(benchmark_folder, layout) - set(benchmark_folder.sequences)):
        data_issues.add(f"sequences in {layout.name_list} that are missing", missing)
    usable = {each.name for each in sequences}
    unusable = tuple(each.name for each in files if each.name not in usable)
    coverage = replace(coverage, used=len(sequences), unusable=unusable)
    return Benchmark(layout, folder, files, sequences, data_issues, coverage)


def _read_name_list(benchmark: BenchmarkFolder, layout: Layout) -> set[str]:
    path = benchmark.find(layout.name_list) if layout.name_list else None
    return set() if path is None else {line.strip() for line in read_text(path).splitlines() if line.strip()}


def open_usable(
    name: BenchmarkName, root: str | Path, data_issues: DataIssues, *, images: bool, **options: Any
) -> Benchmark:
    """Read a benchmark with at least one usable sequence.

    Args:
        name: see ``open_benchmark``.
        root: see ``open_benchmark``.
        data_issues: receives the benchmark's data issues.
        images: see ``open_benchmark``.
        options: other arguments of ``open_benchmark``.

    Raises:
        DataError: as ``open_benchmark``, or no sequence is usable.
    """
    benchmark = open_benchmark(name, root, images=images, **options)
    data_issues.extend(benchmark.data_issues)
    if not benchmark.sequences:
        raise DataError(
            f"{benchmark.folder}: none of {len(benchmark.files)} sequences can be used; `mmdistill check` lists why"
        )
    return benchmark


def choose_layout(name: BenchmarkName, *, modality: Literal["rgb", "tir"] = "rgb", split: Split = "test") -> Layout:
    """Return the layout of a benchmark; see ``open_benchmark`` for the arguments."""
    if name == "vot":
        return vot_layout(modality)
    if name == "lasher":
        return lasher_layout(split)
    if name == "lsotb-tir" and split == "train":
        return LSOTB_TIR_TRAINING
    return {each.benchmark: each for each in (GTOT, RGBT210, RGBT234, VTUAV, LSOTB_TIR, PTB_TIR)}[name]
