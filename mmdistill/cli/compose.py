"""``mmdistill compose``: labeled RGB-T video on disk, synthetic or composed from real pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdistill.cli.benchmark_source import warn_of_data_issues
from mmdistill.reference.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.synthetic.settings import Length
from mmdistill.reference.training.data_sources import composed_sequences
from mmdistill.toolkit.data_issues import DataError, DataIssues, printable
from mmdistill.toolkit.datasets.folder_sequence import find_annotation, write_sequence
from mmdistill.toolkit.datasets.image_pairs import open_pairs
from mmdistill.toolkit.io import read_json, write_text
from mmdistill.toolkit.progress import progress_bar
from mmdistill.toolkit.ranges import Count, NonNegativeInt, Seed
from mmdistill.toolkit.run_control import run_lock
from mmdistill.toolkit.sequence import TrackingSequence

OPTIONS = "compose.json"
"""The file in ``--out`` that tells with which options its sequences were composed."""


def compose(
    out: Path,
    pairs: Path | None = None,
    rgb: Path | None = None,
    tir: Path | None = None,
    side_by_side: bool = False,
    last: NonNegativeInt = 0,
    count: Count = 5,
    length: Length = 100,
    seed: Seed = 0,
    quiet: bool = False,
) -> None:
    """Write labeled RGB-T sequences to folders that `track` and `evaluate --benchmark vot` read.

      mmdistill compose --pairs PAIRS --last 30 --count 10 --out held_out

    Interrupted, the same command goes on: sequences that are there already are kept.

    Args:
        out: where the sequence folders are made.
        pairs: folder of aligned pairs to take scenes and targets from; synthetic video without it. Read are folders
            named for RGB and TIR at any depth (rgb and tir, train/visible and train/infrared, vi/train and ir/train),
            file names (1_rgb.png and 1_ir.png), and images with RGB left and TIR right.
        rgb: folder of RGB images, whatever its name, with --tir in place of --pairs.
        tir: folder of TIR images, whatever its name.
        side_by_side: take every image of --pairs as RGB in the left half, TIR in the right.
        last: use only this many pairs, the last by name; 0 for all.
        count: how many sequences.
        length: frames of a sequence.
        seed: of the sequences.
        quiet: show no progress.
    """
    sequences: Sequence[TrackingSequence]
    if pairs is None and rgb is None and tir is None:
        sequences = synthetic_sequences(count, seed=seed, settings=SyntheticSettings(length=length))
    else:
        found = open_pairs(pairs, rgb=rgb, tir=tir, side_by_side=side_by_side, on_broken="skip")
        found.report_skipped(data_issues := DataIssues())
        warn_of_data_issues(data_issues)
        sequences = composed_sequences(
            found, slice(-last if last else None, None), count=count, seed=seed, length=length
        )
    options = {"pairs": pairs, "rgb": rgb, "tir": tir, "side_by_side": side_by_side, "last": last}
    options |= {"count": count, "length": length, "seed": seed}
    with run_lock(out), progress_bar(len(sequences), "composing", "video", quiet=quiet) as bar:
        goes_on = _claim(out, options)
        for sequence in sequences:
            folder = out / sequence.name
            if not (goes_on and find_annotation(folder)):
                write_sequence(sequence, folder, suffix=".jpg")
            bar.update()
    print(printable(out))


def _claim(out: Path, options: Mapping[str, object]) -> bool:
    """Mark a folder as made with these options; return whether it was so already.

    Raises:
        DataError: it was made with others.
    """
    mark = out / OPTIONS
    own = {name: value if value is None else str(value) for name, value in options.items()}
    if not mark.exists():
        write_text(mark, json.dumps(own, indent=2) + "\n")
        return False
    if read_json(mark) != own:
        raise DataError(f"{out}: holds sequences that were composed with other options; give another --out")
    return True
