"""``mmdistill compose``: labelled RGB-T video on disk, synthetic or composed from real pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmdistill.reference.commands.odd_lines import warn_of_oddities
from mmdistill.reference.data.folders import write_sequence
from mmdistill.reference.data.pairs import open_pairs
from mmdistill.reference.data.sequence import TrackingSequence
from mmdistill.reference.data.synthetic import SyntheticSettings, synthetic_sequences
from mmdistill.reference.data.synthetic.settings import Length
from mmdistill.reference.data.training_source import composed_sequences
from mmdistill.reference.errors import printable
from mmdistill.reference.oddities import Oddities
from mmdistill.reference.progress import progress_bar
from mmdistill.reference.ranges import Count, NonNegativeInt, Seed
from mmdistill.reference.run_lock import run_lock


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
    """Write labelled RGB-T sequences to folders that `track` and `evaluate --benchmark vot` read.

      mmdistill compose --pairs PAIRS --last 30 --count 10 --out held_out

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
        found.note_left_out(oddities := Oddities())
        warn_of_oddities(oddities)
        sequences = composed_sequences(
            found, slice(-last if last else None, None), count=count, seed=seed, length=length
        )
    with run_lock(out), progress_bar(len(sequences), "composing", "video", quiet=quiet) as bar:
        for sequence in sequences:
            write_sequence(sequence, out / sequence.name, suffix=".jpg")
            bar.update()
    print(printable(out))
