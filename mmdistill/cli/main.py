"""The command line: ``mmdistill`` and ``python -m mmdistill``.

A command is imported when it is called, so ``--help`` and ``--version`` import neither PyTorch nor tyro.
"""

from __future__ import annotations

import difflib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module

from mmdistill import __version__
from mmdistill.cli.arguments import ArgumentError
from mmdistill.errors import ShapeError
from mmdistill.toolkit.data_issues import DataError, one_line
from mmdistill.toolkit.interruption import exit_status, raise_on_signal
from mmdistill.toolkit.ranges import RangeError

COMMANDS = {
    "demo": "Train a small teacher and two students on synthetic video, and score them.",
    "track": "Track a target through one video.",
    "train": "Train one tracker on labeled data; the same command resumes an interrupted run.",
    "adapt-tir": "Train a TIR tracker without labels, from an RGB tracker and RGB-TIR image pairs.",
    "score": "Score the result files of any tracker on a benchmark.",
    "evaluate": "Track a benchmark with a network, then score the results.",
    "check": "List what is missing or odd in a copy of a benchmark, or in a folder of image pairs.",
    "report": "Compare trackers on one HTML page.",
    "align": "Find how two cameras agree: a homography from TIR to RGB, and the delay of TIR.",
    "compose": "Write labeled RGB-T sequences: synthetic video, or video composed from image pairs.",
    "convert": "Convert a public checkpoint without running code from it.",
    "export": "Export a tracker as ONNX files.",
}
"""Each command's name, and the first line of its docstring."""

SIGPIPE = 13
"""The number of a signal that Windows does not have."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status.

    The status is 0 on success, 1 for bad data and 2 for wrong arguments. After a signal it is 128 plus the signal's
    number: 130 after Ctrl-C, 143 after SIGTERM.

    Args:
        arguments: The words after ``mmdistill``; by default those of this process.
    """
    _prepare_output()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    try:
        with raise_on_signal():
            _run(name, rest)
    except (ArgumentError, RangeError) as error:
        return _fail(error, 2)
    except BrokenPipeError:
        # The reader closed the pipe, as ``| head`` does. Without this, Python prints an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + SIGPIPE
    except (DataError, ShapeError, OSError) as error:
        return _fail(error, 1)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mmdistill":
            raise
        return _fail(f"{name or 'the command line'} needs {error.name}: pip install 'mmdistill[tracker]'", 1)
    except KeyboardInterrupt as error:
        return _fail("interrupted", exit_status(error))
    except SystemExit as stop:  # tyro, after it printed the help of a command
        return int(stop.code or 0)
    return 0


def load_command(name: str) -> Callable[..., None]:
    """Import a command and return its function, which has the name of its module."""
    name = name.replace("-", "_")
    command: Callable[..., None] = getattr(import_module(f"mmdistill.cli.{name}"), name)
    return command


def overview() -> str:
    """Return the help text of ``mmdistill --help``: each command with its summary."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "usage: mmdistill COMMAND [OPTIONS]",
            "",
            "Distill RGB-T trackers, track with them and score them.",
            "",
            "commands:",
            *(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items()),
            "",
            "examples:",
            "  mmdistill demo",
            "  mmdistill score --benchmark lasher --annotations LasHeR/annos --results RESULTS/mfDiMP",
            "  mmdistill track --help",
        ]
    )


def _run(name: str, arguments: list[str]) -> None:
    if name in ("-h", "--help"):
        print(overview())
    elif name == "--version":
        print(f"mmdistill {__version__}")
    elif name in COMMANDS:
        command = load_command(name)
        from mmdistill.cli.parsing import call

        call(command, name, arguments)
    elif name:
        nearest = difflib.get_close_matches(name, [*COMMANDS, "--help", "--version"], n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "see mmdistill --help"
        raise ArgumentError(f"there is no command {one_line(name)}; {hint}")
    else:
        raise ArgumentError(f"expected a command: {', '.join(COMMANDS)}; see mmdistill --help")


def _fail(error: object, status: int) -> int:
    """Print an error on one line and return the exit status."""
    if sys.stderr is not None:
        with suppress(OSError):  # the terminal is gone
            print(f"mmdistill: {one_line(error)}", file=sys.stderr, flush=True)
    return status


class _OneLine(logging.Formatter):
    """Formats a warning in the way errors are printed."""

    def format(self, record: logging.LogRecord) -> str:
        return f"mmdistill: {one_line(record.getMessage())}"


def _prepare_output() -> None:
    """Print characters that the terminal can't encode as backslash escapes, and each warning on one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
