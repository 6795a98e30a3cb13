"""``mmdistill check``: lists what is missing or odd in a benchmark's copy or in image pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from mmdistill.cli.alignment_option import check_benchmark_is_unaligned, load_alignment
from mmdistill.cli.arguments import ArgumentError, check_pair_folders, check_split
from mmdistill.cli.benchmark_options import print_data_issues
from mmdistill.toolkit.data_issues import DataError, printable
from mmdistill.toolkit.datasets import BenchmarkName, Split
from mmdistill.toolkit.datasets.checks import CheckReport, check_benchmark, check_pairs
from mmdistill.toolkit.images import MaxPixels, set_max_pixels


def check(
    benchmark: Literal[BenchmarkName, "pairs"],
    root: Path | None = None,
    annotations: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    align: Path | None = None,
    decode: bool = False,
    split: Split = "test",
    modality: Literal["rgb", "tir"] = "rgb",
    attribute_names: tuple[str, ...] = (),
    partial: bool = False,
    max_pixels: MaxPixels | None = None,
) -> None:
    """List what is missing or odd in a copy of a benchmark, or in a folder of image pairs.

    Exit status 1 if a sequence or pair is invalid, or if LasHeR's split is not complete.

    Check a copy of a benchmark with its images:

      mmdistill check --benchmark gtot --root GTOT

    Check annotations alone:

      mmdistill check --benchmark lasher --annotations LasHeR/annos

    Check unlabeled image pairs for training, and decode each image:

      mmdistill check --benchmark pairs --root KAIST --decode

    Args:
        benchmark: Name of the benchmark. vot: a folder of VOT- or OTB-style sequences. pairs: unlabeled image pairs.
        root: Folder of the benchmark or of the pairs.
        annotations: Folder of the ground truth, in place of --root. Images are then not checked.
        rgb: Folder of the RGB images of pairs, with --tir in place of --root.
        tir: Folder of the TIR images of pairs.
        side_by_side: Read each image of --root as a pair: RGB in the left half, TIR in the right half.
        align: File of `align`, for pairs or vot sequences. Images of other sizes are reported.
        decode: Decode each image. By default only the first images are decoded.
        split: Part of LasHeR by the official lists: test (245 sequences), train (979) or all (1,224).
        modality: Modality of vot sequences that have only one.
        attribute_names: Names of the attributes of LSOTB-TIR or PTB-TIR, in the order of their flags.
        partial: Accept a copy that has a part of the split.
        max_pixels: Pixels of the largest image that is read. By default MMDISTILL_MAX_PIXELS, or 100,000,000.
    """
    if max_pixels is not None:
        set_max_pixels(max_pixels)
    check_benchmark_is_unaligned(benchmark, align, images=annotations is None)
    alignment = None if align is None else load_alignment(align)
    if benchmark == "pairs":
        if annotations is not None:
            raise ArgumentError("--annotations: image pairs have none; leave it out")
        check_pair_folders("--root", root, rgb, tir)
        checked = check_pairs(root, rgb=rgb, tir=tir, side_by_side=side_by_side, decode=decode, alignment=alignment)
        _print(checked, root or f"{rgb} and {tir}", "pairs")
        return
    check_split(benchmark, split)
    if rgb is not None or tir is not None or side_by_side:
        raise ArgumentError("--rgb, --tir, --side-by-side: expected --benchmark pairs, the only one with these options")
    if root is not None and annotations is not None:
        raise ArgumentError("--annotations: leave it out, because --root has the ground truth too")
    folder = root or annotations
    if folder is None:
        raise ArgumentError("--root: expected the folder of the sequences, or --annotations")
    checked = check_benchmark(
        benchmark,
        folder,
        images=annotations is None,
        decode=decode,
        modality=modality,
        split=split,
        attribute_names=attribute_names,
        alignment=alignment,
    )
    _print(checked, folder, "sequences")
    coverage = checked.coverage
    if coverage is not None and coverage.split and not (partial or coverage.matches_split):
        raise DataError(f"{folder}: {coverage.summary}; with --partial a part of the split is accepted")


def _print(checked: CheckReport, folder: Path | str, kind: str) -> None:
    """Print the result of a check; raise DataError if there are invalid sequences or pairs."""
    if checked.coverage is not None:
        print(checked.coverage.summary)
    print_data_issues(checked.data_issues, limit=None)
    print(f"{printable(folder)}: {checked.usable:,} of {checked.sequences:,} {kind} can be used")
    if checked.usable < checked.sequences:
        raise DataError(f"{folder}: {checked.sequences - checked.usable:,} {kind} can't be used, as listed")
