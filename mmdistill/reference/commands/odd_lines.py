"""What was odd, as commands print it."""

from __future__ import annotations

import logging

from mmdistill.reference.errors import printable
from mmdistill.reference.oddities import Oddities

logger = logging.getLogger(__name__)

SHOWN = 5
"""How many oddities of a kind are printed beside figures; ``--check`` prints all."""


def print_oddities(oddities: Oddities, most: int | None = SHOWN, *, whose: str | None = None) -> None:
    """Print what was odd, at most so many details of a kind, or nothing where nothing was."""
    lines = oddities.lines(most)
    if lines:
        print(f"\nOdd{f' in {printable(whose)}' if whose else ''}, and what is made of it:")
        print("\n".join(f"  {line}" for line in lines))


def warn_of_oddities(oddities: Oddities, most: int = SHOWN) -> None:
    """Log what was odd as warnings, a line each, at most so many details of a kind."""
    for line in oddities.lines(most):
        logger.warning("%s", line)
