"""Wrong arguments: the error that exits with status 2, and checks that several commands share."""

from __future__ import annotations

from pathlib import Path


class ArgumentError(ValueError):
    """A command was called with wrong arguments; the message names the option.

    The command line prints the message on one line and exits with status 2.
    """


def check_pair_folders(option: str, folder: Path | str | None, rgb: Path | None, tir: Path | None) -> None:
    """Check that image pairs are given, either by one folder or by a folder for each modality.

    Args:
        option: The name of the option for one folder, such as ``--pairs``.
        folder: The value of that option.
        rgb: The folder of RGB images.
        tir: The folder of TIR images.

    Raises:
        ArgumentError: No folder is given, or only one of ``rgb`` and ``tir``, or all three.
    """
    if folder is None and rgb is None and tir is None:
        raise ArgumentError(f"{option}: expected a folder, or --rgb and --tir in place of it")
    for name, missing, other, given in (("--rgb", rgb, "--tir", tir), ("--tir", tir, "--rgb", rgb)):
        if missing is None and given is not None:
            raise ArgumentError(f"{name}: expected a folder, because {other} is given")
    if folder is not None and rgb is not None:
        raise ArgumentError(f"{option}: leave it out, because --rgb and --tir are given")


def check_split(benchmark: str, split: str) -> None:
    """Raise ArgumentError if a split is given for a benchmark without splits."""
    if split != "test" and benchmark != "lasher":
        raise ArgumentError(f"--split: only lasher has splits, not {benchmark}; leave it out, got {split}")


def refuse_folder(option: str, folder: Path | None) -> None:
    """Raise ArgumentError if a folder is given for synthetic video."""
    if folder is not None:
        raise ArgumentError(f"{option}: synthetic video has no folder; leave it out, got {folder}")
