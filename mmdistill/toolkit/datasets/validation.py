"""Walking a copy of a benchmark: what is missing, what is odd, and which sequences can be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mmdistill.pair import Pair
from mmdistill.toolkit.boxes import check_initial
from mmdistill.toolkit.data_issues import DataError, DataIssues
from mmdistill.toolkit.datasets.benchmark_sequence import BenchmarkSequence
from mmdistill.toolkit.datasets.benchmarks import UNUSABLE, BenchmarkName, LabeledSequence, open_benchmark
from mmdistill.toolkit.datasets.layout import SequenceFiles
from mmdistill.toolkit.datasets.splits import Coverage, Split
from mmdistill.toolkit.image_files import list_images
from mmdistill.toolkit.images import read_pixels
from mmdistill.toolkit.progress import progress_bar

UNEQUAL_IMAGES = "RGB and TIR differ in their number of images; where one has none, the other stands in"
FEWER_IMAGES = "images a frame short of the boxes, the last box is repeated"
MORE_IMAGES = "more images than boxes, those after the last box are left out"
OTHER_SIZE = "TIR images of another size than RGB's, to which they are resized"
NOT_POSITIVE = "boxes with x, y, width or height of zero or less, each scored by the benchmark's own rule"
NO_ATTRIBUTES = "no sequence has attributes"


@dataclass(frozen=True)
class Checked:
    """What a walk found.

    Attributes:
        sequences: how many sequences, or pairs, the copy has.
        usable: how many of them can be used.
        data_issues: everything that is missing or odd.
        coverage: how many sequences there are, of how many by the benchmark's publication; None for pairs.
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
) -> Checked:
    """Walk a copy of a benchmark.

    Args:
        name: as in ``open_benchmark``.
        root: as there.
        images: whether there should be images; annotations are enough for scoring.
        decode: whether each image is decoded, which takes its time; otherwise the first ones are, and none may be
            empty.
        modality: as there.
        split: as there.
        attribute_names: as there.

    Raises:
        DataError: there are no sequences, or several folders hold some.
    """
    benchmark = open_benchmark(
        name,
        root,
        images=images,
        modality=modality,
        split=split,
        attribute_names=attribute_names,
        unusable="skip",
        partial=True,
    )
    data_issues, files = benchmark.data_issues, {each.name: each for each in benchmark.files}
    published = benchmark.layout.attributes and benchmark.layout.count is not None  # folders of one's own may have none
    if published and not any(sequence.attributes for sequence in benchmark.sequences):
        data_issues.add(NO_ATTRIBUTES)
    unusable = list(benchmark.coverage.unusable)
    with progress_bar(len(benchmark.sequences), "checking", "sequence") as bar:
        for sequence in benchmark.sequences:
            try:
                _check_boxes(sequence, data_issues)
                if images:
                    _check_images(sequence, files[sequence.name], decode, data_issues)
            except DataError as error:
                unusable.append(sequence.name)
                data_issues.add(UNUSABLE, str(error))
            bar.update()
    usable = len(files) - len(unusable)
    return Checked(len(files), usable, data_issues, replace(benchmark.coverage, used=usable, unusable=tuple(unusable)))


def _check_boxes(sequence: LabeledSequence, data_issues: DataIssues) -> None:
    truth = sequence.truths[0]
    invalid = int((truth <= 0).any(axis=1).sum())  # NaN, no label, is not
    if invalid:
        data_issues.add(NOT_POSITIVE, f"{sequence.name}: {invalid:,} of {len(truth):,}")


def _check_images(sequence: LabeledSequence, files: SequenceFiles, decode: bool, data_issues: DataIssues) -> None:
    """Look at a sequence's images.

    Raises:
        DataError: there are images that can't be read, or nobody could start from the first box.
    """
    images = _images(sequence, files)
    there = Pair(*([path for path in side if path is not None] for side in images))
    counts = [len(side) for side in there if side]
    if len(set(counts)) > 1:
        data_issues.add(UNEQUAL_IMAGES, f"{sequence.name}: {len(there.rgb):,} and {len(there.tir):,}")
    if max(counts) < len(sequence):
        data_issues.add(FEWER_IMAGES, f"{sequence.name}: {max(counts):,} for {len(sequence):,}")
    elif max(counts) > len(sequence):
        data_issues.add(MORE_IMAGES, f"{sequence.name}: {max(counts):,} for {len(sequence):,}")
    broken = [problem for side in there for path in side if (problem := _problem(path, decode))]
    if broken:
        more = f" (and {len(broken) - 1:,} more images)" if len(broken) > 1 else ""
        raise DataError(f"{broken[0]}{more}")
    sizes = [read_pixels(side[0]).shape[1::-1] for side in there if side]
    if len(set(sizes)) > 1:
        (width, height), (other_width, other_height) = sizes
        data_issues.add(OTHER_SIZE, f"{sequence.name}: {other_width} x {other_height} for {width} x {height}")
    check_initial(sequence.boxes[0], *sizes[0], where=f"sequence {sequence.name}")


def _images(sequence: LabeledSequence, files: SequenceFiles) -> Pair[Sequence[Path | None]]:
    if isinstance(sequence, BenchmarkSequence):
        return sequence.images
    return Pair(*([] if folder is None else list_images(folder) for folder in files.images))


def _problem(path: Path, decode: bool) -> str:
    """Say why an image can't be read; empty if it can, or as far as can be told without decoding it."""
    if decode:
        try:
            read_pixels(path)
        except DataError as error:
            return str(error)
    return "" if path.stat().st_size else f"{path}: expected an image, the file is empty"
