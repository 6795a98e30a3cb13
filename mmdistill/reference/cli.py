"""The command line: ``mmdistill`` and ``python -m mmdistill``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence

import tyro

from mmdistill.errors import ShapeError
from mmdistill.reference.commands.compose import compose
from mmdistill.reference.commands.demo import demo
from mmdistill.reference.commands.evaluate import evaluate
from mmdistill.reference.commands.track import track
from mmdistill.reference.commands.train import train
from mmdistill.reference.errors import DataError

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "track": track,
    "evaluate": evaluate,
    "compose": compose,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status: 0 success, 1 bad data, 2 wrong arguments.

    Args:
        arguments: what stands after ``mmdistill``; the process's own if not given.
    """
    logging.basicConfig(level=logging.WARNING, format="mmdistill: %(message)s")
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="mmdistill",
            description="Distil compact RGB-T trackers from heavy ones, track with them, score them.",
            args=arguments,
        )
    except (DataError, ShapeError, OSError) as error:
        print(f"mmdistill: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmdistill: interrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
