"""The command line: ``mmdistill`` and ``python -m mmdistill``."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Union

import tyro

from mmdistill.errors import ShapeError
from mmdistill.reference.commands.compose import compose
from mmdistill.reference.commands.convert import convert
from mmdistill.reference.commands.demo import demo
from mmdistill.reference.commands.evaluate import evaluate
from mmdistill.reference.commands.export import export
from mmdistill.reference.commands.report import report
from mmdistill.reference.commands.track import track
from mmdistill.reference.commands.train import train
from mmdistill.reference.commands.train_tir import train_tir
from mmdistill.reference.errors import DataError, one_line

COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "track": track,
    "evaluate": evaluate,
    "report": report,
    "compose": compose,
    "convert": convert,
    "export": export,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status: 0 success, 1 bad data, 2 wrong arguments.

    Args:
        arguments: what stands after ``mmdistill``; the process's own if not given.
    """
    _prepare_output()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    try:
        if name == "train" and rest[:1] == ["tir"] and not _given("--data", rest):
            # Without labelled data it is TIR-CMD, a command of its own.
            tyro.cli(train_tir, prog="mmdistill train tir", args=rest[1:])
        elif name in COMMANDS:
            tyro.cli(COMMANDS[name], prog=f"mmdistill {name}", args=rest)
        else:
            _overview([name, *rest] if name else [])
    except (DataError, ShapeError, OSError) as error:
        print(f"mmdistill: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("mmdistill: interrupted", file=sys.stderr)
        return 130
    return 0


class _OneLine(logging.Formatter):
    """Prints a warning as errors are printed."""

    def format(self, record: logging.LogRecord) -> str:
        return f"mmdistill: {one_line(record.getMessage())}"


def _prepare_output() -> None:
    """Let names that the terminal can't encode be printed as backslash escapes, and warnings on one line each."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _given(option: str, arguments: Sequence[str]) -> bool:
    return any(argument.partition("=")[0] == option for argument in arguments)


def _overview(arguments: Sequence[str]) -> None:
    """Show the subcommands, a line each, or refuse one that there is not: tyro exits either way."""
    choices: list[Any] = []
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").splitlines()[0]
        choices.append(Annotated[command, tyro.conf.subcommand(name, description=summary, prefix_name=False)])
    description = "Distil compact RGB-T trackers from heavy ones, track with them, score them."
    union: Any = Union[tuple(choices)]  # noqa: UP007
    tyro.cli(union, prog="mmdistill", description=description, args=arguments)
