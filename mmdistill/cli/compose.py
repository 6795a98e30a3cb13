"""``mmdistill compose``: writes labeled RGB-T sequences, synthetic or composed from image pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdistill.cli.alignment_option import load_alignment
from mmdistill.cli.arguments import ArgumentError, check_pair_folders
from mmdistill.cli.benchmark_options import warn_of_data_issues
from mmdistill.reference.synthetic import Length, SyntheticSettings, synthetic_sequences
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.folder_sequence import find_annotation, write_sequence
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.folder_lock import lock_folder
from mmdistill.toolkit.io import read_json, read_text, write_text
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Count, NonNegativeInt, Seed
from mmdistill.toolkit.sequence import TrackingSequence

OPTIONS = "compose.json"
"""The file in ``--out`` with the options of its sequences."""


def compose(
    out: Path,
    pairs: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    align: Path | None = None,
    last: NonNegativeInt = 0,
    count: Count = 5,
    length: Length = 100,
    seed: Seed = 0,
    quiet: bool = False,
) -> None:
    """Write labeled RGB-T sequences: synthetic video, or video composed from image pairs.

    `track` and `evaluate --benchmark vot` read the folders. The same command resumes an interrupted run.

    Write five synthetic sequences:

      mmdistill compose --out synthetic

    Compose sequences from pairs that were left out of training (train --num-test-pairs 30):

      mmdistill compose --pairs PAIRS --last 30 --count 10 --out test_sequences

    Args:
        out: Folder for the sequence folders.
        pairs: Folder of aligned pairs for scenes and targets. By default the video is synthetic. The modality is in the
            name of a folder, such as rgb and tir, or train/visible and train/infrared. It may also be in the file name:
            1_rgb.png and 1_ir.png. An image may also have RGB in its left half and TIR in its right half.
        rgb: Folder of RGB images, with --tir in place of --pairs.
        tir: Folder of TIR images.
        side_by_side: Read each image of --pairs as RGB in the left half and TIR in the right half.
        align: File of `align`, for pairs that are not aligned. Both images are cropped to what TIR covers.
        last: Use only this many pairs, the last by name. 0 for all.
        count: Number of sequences.
        length: Frames of a sequence.
        seed: Seed of the sequences.
        quiet: Show no progress.
    """
    sequences: Sequence[TrackingSequence]
    if pairs is None and rgb is None and tir is None:
        if align is not None:
            raise ArgumentError("--align: is for image pairs; give --pairs, or --rgb and --tir")
        sequences = synthetic_sequences(count, seed=seed, settings=SyntheticSettings(length=length))
    else:
        check_pair_folders("--pairs", pairs, rgb, tir)
        alignment = None if align is None else load_alignment(align)
        opened = open_pairs(pairs, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip", alignment=alignment)
        opened.report_skipped(data_issues := DataIssues())
        warn_of_data_issues(data_issues)
        sequences = composed_sequences(
            opened, slice(-last if last else None, None), count=count, seed=seed, length=length
        )
    options: dict[str, object] = {"pairs": pairs, "rgb": rgb, "tir": tir, "side_by_side": side_by_side, "last": last}
    if align is not None:
        options["align"] = read_text(align)
    options |= {"count": count, "length": length, "seed": seed}
    with lock_folder(out), progress_bar(len(sequences) * length, "composing", "frame", quiet=quiet) as bar:
        resumed = _claim(out, options)
        for sequence in sequences:
            folder = out / sequence.name
            if resumed and find_annotation(folder):
                bar.update(length)
            else:
                write_sequence(sequence, folder, suffix=".jpg", after_frame=bar.update)
    print(printable(out))


def _claim(out: Path, options: Mapping[str, object]) -> bool:
    """Write the options to a folder; return whether they were there already.

    Raises:
        DataError: The folder holds sequences of other options.
    """
    mark = out / OPTIONS
    content = {name: value if value is None else str(value) for name, value in options.items()}
    if not mark.exists():
        write_text(mark, json.dumps(content, indent=2) + "\n")
        return False
    if read_json(mark) != content:
        raise DataError(f"{out}: holds sequences that were composed with other options; give another --out")
    return True
