"""Checks a benchmark or a folder of image pairs: which files are missing or malformed, and what is usable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mmdistill.pair import Pair
from mmdistill.toolkit.alignment.alignment import Alignment
from mmdistill.toolkit.boxes import check_initial_box
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.benchmarks import UNUSABLE, BenchmarkName, LabeledSequence, open_benchmark
from mmdistill.toolkit.datasets.coverage import Coverage, Split
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.datasets.sequence_search import SequenceFiles
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.images import read_pixels
from mmdistill.toolkit.progress import progress_bar

UNEQUAL_IMAGES = "different numbers of RGB and TIR images; the other modality replaces missing ones"
FEWER_IMAGES = "images a frame short of the boxes, the last box is repeated"
MORE_IMAGES = "more images than boxes, those after the last box are left out"
OTHER_SIZE = "TIR images of another size than RGB's, to which they are resized"
NOT_POSITIVE = "boxes with x, y, width or height of zero or less, each scored by the benchmark's own rule"
NO_ATTRIBUTES = "no sequence has attributes"
UNREADABLE_PAIRS = "unreadable pairs"
PAIR_WARNINGS = "warnings of reading the pairs"


@dataclass(frozen=True)
class CheckReport:
    """The result of a check.

    Attributes:
        sequences: number of sequences or pairs.
        usable: number of usable sequences or pairs.
        data_issues: all issues of the data.
        coverage: comparison with the official sequences; None for pairs.
    """

    sequences: int
    usable: int
    data_issues: DataIssues
    coverage: Coverage | None = None


def check_benchmark(
    name: BenchmarkName,
    root: str | Path,
    *,
    images: bool = True,
    decode: bool = False,
    modality: Literal["rgb", "tir"] = "rgb",
    split: Split = "test",
    attribute_names: Sequence[str] = (),
    alignment: Alignment | None = None,
) -> CheckReport:
    """Check all sequences of a benchmark.

    Args:
        name: see ``open_benchmark``.
        root: see ``open_benchmark``.
        images: whether frames are needed; annotations are enough for scoring.
        decode: decode all images, which is slow, not only the first ones; empty files are always found.
        modality: see ``open_benchmark``.
        split: see ``open_benchmark``.
        attribute_names: see ``open_benchmark``.
        alignment: see ``open_benchmark``; images of other sizes make a sequence unusable.

    Raises:
        DataError: no folder or several folders have sequences.
    """
    benchmark = open_benchmark(
        name,
        root,
        images=images,
        modality=modality,
        split=split,
        attribute_names=attribute_names,
        on_invalid="skip",
        partial=True,
        alignment=alignment,
    )
    data_issues, files = benchmark.data_issues, {each.name: each for each in benchmark.files}
    is_published = benchmark.layout.count is not None  # other folders need no attributes
    if benchmark.layout.attributes and is_published and not any(each.attributes for each in benchmark.sequences):
        data_issues.add(NO_ATTRIBUTES)
    unusable = list(benchmark.coverage.unusable)
    with progress_bar(len(benchmark.sequences), "checking", "sequence") as bar:
        for sequence in benchmark.sequences:
            try:
                _check_boxes(sequence, data_issues)
                if images:
                    _check_images(sequence, files[sequence.name], decode, data_issues, alignment)
            except DataError as error:
                unusable.append(sequence.name)
                data_issues.add(UNUSABLE, str(error))
            bar.update()
    usable = len(files) - len(unusable)
    coverage = replace(benchmark.coverage, used=usable, unusable=tuple(unusable))
    return CheckReport(len(files), usable, data_issues, coverage)


def _check_boxes(sequence: LabeledSequence, data_issues: DataIssues) -> None:
    truth = sequence.truths[0]
    count = int((truth <= 0).any(axis=1).sum())  # NaN, no label, does not count
    if count:
        data_issues.add(NOT_POSITIVE, f"{sequence.name}: {count:,} of {len(truth):,}")


def _check_images(
    sequence: LabeledSequence,
    files: SequenceFiles,
    decode: bool,
    data_issues: DataIssues,
    alignment: Alignment | None,
) -> None:
    """Check the images of a sequence.

    Raises:
        DataError: an image is unreadable, or no tracker can start from the initial box.
    """
    images = Pair(*([path for path in each if path is not None] for each in _list_images(sequence, files)))
    counts = [len(each) for each in images if each]
    if len(set(counts)) > 1:
        data_issues.add(UNEQUAL_IMAGES, f"{sequence.name}: {len(images.rgb):,} and {len(images.tir):,}")
    if max(counts) < len(sequence):
        data_issues.add(FEWER_IMAGES, f"{sequence.name}: {max(counts):,} for {len(sequence):,}")
    elif max(counts) > len(sequence):
        data_issues.add(MORE_IMAGES, f"{sequence.name}: {max(counts):,} for {len(sequence):,}")
    problems = [problem for paths in images for path in paths if (problem := _image_problem(path, decode))]
    if problems:
        more = f" (and {len(problems) - 1:,} more images)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{more}")
    sizes = [read_pixels(paths[0]).shape[1::-1] for paths in images if paths]
    if alignment is not None:
        for name, size in zip(("RGB", "TIR"), sizes, strict=True):
            alignment.check_size(name, (size[0], size[1]), sequence.name)
    elif len(set(sizes)) > 1:
        (width, height), (other_width, other_height) = sizes
        data_issues.add(OTHER_SIZE, f"{sequence.name}: {other_width} x {other_height} for {width} x {height}")
    check_initial_box(sequence.boxes[0], *sizes[0], where=f"sequence {sequence.name}")


def _list_images(sequence: LabeledSequence, files: SequenceFiles) -> Pair[Sequence[Path | None]]:
    if isinstance(sequence, BenchmarkSequence):
        return sequence.images
    return Pair(*([] if folder is None else list_images(folder) for folder in files.images))


def _image_problem(path: Path, decode: bool) -> str:
    """Return why an image is unreadable, or an empty text; without decoding only empty files are found."""
    if decode:
        try:
            read_pixels(path)
        except DataError as error:
            return str(error)
    return "" if path.stat().st_size else f"{path}: expected an image, the file is empty"


def check_pairs(
    root: str | Path | None = None,
    *,
    rgb: str | Path | None = None,
    tir: str | Path | None = None,
    side_by_side: bool = False,
    decode: bool = False,
    alignment: Alignment | None = None,
) -> CheckReport:
    """Check the image pairs in a folder.

    Args:
        root: see ``open_pairs``.
        rgb: see ``open_pairs``.
        tir: see ``open_pairs``.
        side_by_side: see ``open_pairs``.
        decode: decode all images, which is slow; empty files are always found.
        alignment: see ``open_pairs``; the first pair is then always decoded, to compare its sizes.

    Returns:
        The report; files without a counterpart count as unusable pairs.

    Raises:
        DataError: the folder is missing or has no pair.
    """
    data_issues = DataIssues()

    def warn(warning: str) -> None:
        data_issues.add(PAIR_WARNINGS, warning)

    options: dict[str, Any] = {"side_by_side": side_by_side, "on_broken": "skip", "cache_bytes": 0, "warn": warn}
    pairs = open_pairs(root, rgb=rgb, tir=tir, alignment=alignment, **options)
    pairs.report_skipped(data_issues)
    usable = 0
    with progress_bar(len(pairs), "checking", "pair") as bar:
        for index in range(len(pairs)):
            try:
                if decode or (alignment is not None and index == 0):
                    pairs.large_pair(index)
                for path in pairs.files(index):
                    if not path.stat().st_size:
                        raise DataError(f"{path}: expected an image, the file is empty")
                usable += 1
            except DataError as error:
                data_issues.add(UNREADABLE_PAIRS, printable(error))
            bar.update()
    return CheckReport(len(pairs) + len(pairs.problems), usable, data_issues)
