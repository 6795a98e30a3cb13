"""The option ``--align`` of several commands: reads the file, says what TIR covers, refuses benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.alignment import Alignment, read_alignment

logger = logging.getLogger(__name__)

UNALIGNED = ("pairs", "vot")
"""The values of ``--benchmark`` that may not be aligned."""


def load_alignment(path: Path, *, quiet: bool = False) -> Alignment:
    """Read the file of ``--align``, and print on standard error which share of RGB's frame TIR covers.

    Args:
        path: The file.
        quiet: Whether not to print.

    Raises:
        DataError: The file is missing or malformed.
    """
    alignment = read_alignment(path)
    if not quiet:
        logger.warning("%s", alignment.coverage_note)
    return alignment


def alignment_notes(alignment: Alignment, *, by_time: bool) -> Iterator[str]:
    """Yield what a user of an alignment of two videos must know: what TIR covers, and a delay without use.

    Args:
        alignment: The alignment.
        by_time: Whether frames are paired by time.
    """
    yield alignment.coverage_note
    if alignment.delay and not by_time:
        yield f"{alignment.where}: TIR is {alignment.delay:+.3f} s behind RGB; only --pair-by time corrects it"


def check_benchmark_is_unaligned(benchmark: str, align: Path | None, *, images: bool) -> None:
    """Refuse an alignment for a benchmark, whose images are aligned, or without images.

    Args:
        benchmark: The value of ``--benchmark``.
        align: The value of ``--align``.
        images: Whether the command reads images.

    Raises:
        ArgumentError: The option has no use.
    """
    if align is None:
        return
    if benchmark not in UNALIGNED:
        raise ArgumentError(f"--align: expected {' or '.join(UNALIGNED)}, the images of {benchmark} are aligned")
    if not images:
        raise ArgumentError("--align: expected --root with images")
