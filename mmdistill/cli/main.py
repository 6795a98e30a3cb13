"""The command line: ``mmdistill`` and ``python -m mmdistill``."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import io
import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Annotated, Any, Union, get_type_hints

import tyro

from mmdistill import __version__
from mmdistill.cli.adapt_tir import train_tir
from mmdistill.cli.compose import compose
from mmdistill.cli.convert import convert
from mmdistill.cli.demo import demo
from mmdistill.cli.evaluate import evaluate
from mmdistill.cli.export import export
from mmdistill.cli.report import report
from mmdistill.cli.track import track
from mmdistill.cli.train import train
from mmdistill.errors import ShapeError
from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError, one_line
from mmdistill.toolkit.interruption import exit_status, raise_on_signal
from mmdistill.toolkit.progress import print_to_stderr
from mmdistill.toolkit.ranges import RangeError, check_options, unchecked

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

OPTION_NAMES = {"start": "from"}
"""Options of parameters whose names are words of Python."""


PIPE_SIGNAL = 13
"""SIGPIPE's number, which not every system has: shells show 128 and it where output was no longer read."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit status: 0 success, 1 bad data, 2 wrong arguments.

    A signal that ends the run adds its number to 128: 130 after Ctrl-C, 143 after SIGTERM.

    Args:
        arguments: what stands after ``mmdistill``; the process's own if not given.
    """
    _prepare_output()
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if name == "--version":
        print(f"mmdistill {__version__}")
        return 0
    try:
        with raise_on_signal():
            _run(name, rest)
    except RangeError as error:
        print(f"mmdistill: {one_line(error)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # Whoever read the output wants no more of it, as ``| head`` does; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + PIPE_SIGNAL
    except (DataError, ShapeError, OSError) as error:
        print(f"mmdistill: {one_line(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        print_to_stderr("mmdistill: interrupted")
        return exit_status(error)
    return 0


def _run(name: str, rest: list[str]) -> None:
    if name == "train" and rest[:1] == ["tir"] and not _given("--data", rest):
        # Without labeled data it is TIR-CMD, a command of its own.
        _call(train_tir, "mmdistill train tir", rest[1:])
    elif name in COMMANDS:
        _call(COMMANDS[name], f"mmdistill {name}", rest)
    else:
        _overview([name] if name else [])


def _call(command: Callable[..., None], prog: str, arguments: Sequence[str]) -> None:
    """Run a command with its options, once all of them are in their ranges."""

    @functools.wraps(command)
    def bind(*positional: Any, **options: Any) -> inspect.BoundArguments:
        return inspect.signature(command).bind(*positional, **options)

    parse: Any = bind
    try:
        with unchecked(), _safe_errors(arguments):
            bound: inspect.BoundArguments = tyro.cli(parse, prog=prog, args=arguments)
    except SystemExit as stop:
        if stop.code == 2:
            _name_nearest_options(command, prog, arguments)
        raise
    check_options(command, bound.arguments, OPTION_NAMES)
    command(*bound.args, **bound.kwargs)


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


@contextmanager
def _safe_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Make printable, and cut, what tyro quotes of arguments that a terminal acts on or that are very long."""
    if all(argument.isprintable() and len(argument) <= MAX_MESSAGE for argument in arguments):
        yield
        return
    errors = io.StringIO()
    try:
        with redirect_stderr(errors):
            yield
    finally:
        # The box that tyro draws breaks lines at any character.
        text = " ".join(line.strip("│╭╮╰╯─ ") for line in errors.getvalue().splitlines())
        if text.strip():
            print(f"mmdistill: {one_line(text)}", file=sys.stderr)


def _name_nearest_options(command: Callable[..., None], prog: str, arguments: Sequence[str]) -> None:
    """Name, below what tyro prints, the nearest option of each one that there is not."""
    known = [f"--{name}" for name in option_names(command)]
    for argument in arguments:
        option = argument.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in (*known, "--", "--help"):
            _name_nearest(f"{prog} has no option {one_line(option)}", option, known)


def option_names(command: Callable[..., object], prefix: str = "") -> Iterator[str]:
    """Yield the names of a command's options, those of nested settings with dots, flags with and without ``no-``.

    Args:
        command: a function, or a settings dataclass.
        prefix: the name of the option that holds these, with a dot.
    """
    hints = get_type_hints(command, include_extras=True)
    for name, parameter in inspect.signature(command).parameters.items():
        kind = hints[name]
        for metadata in getattr(kind, "__metadata__", ()):
            name = getattr(metadata, "name", None) or name  # an option may be named by a word of Python's, as --from
        option = prefix + name.replace("_", "-")
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            yield from option_names(kind, f"{option}.")
        else:
            yield option
        if isinstance(parameter.default, bool):
            yield f"{prefix}no-{option.removeprefix(prefix)}"


def _name_nearest(problem: str, wrong: str, known: Iterable[str]) -> None:
    nearest = difflib.get_close_matches(wrong, list(known), n=1)
    if nearest:
        print(f"mmdistill: {problem}; did you mean {nearest[0]}?", file=sys.stderr)


def _given(option: str, arguments: Sequence[str]) -> bool:
    return any(argument.partition("=")[0] == option for argument in arguments)


def _overview(arguments: Sequence[str]) -> None:
    """Show the subcommands, a line each, or refuse one that there is not: tyro exits either way."""
    choices: list[Any] = []
    for name, command in COMMANDS.items():
        summary = (command.__doc__ or "").splitlines()[0]
        choices.append(Annotated[command, tyro.conf.subcommand(name, description=summary, prefix_name=False)])
    description = "Distill compact RGB-T trackers from heavy ones, track with them, score them."
    union: Any = Union[tuple(choices)]  # noqa: UP007
    try:
        with _safe_errors(arguments):
            tyro.cli(union, prog="mmdistill", description=description, args=arguments)
    except SystemExit as stop:
        if stop.code == 2 and arguments:
            _name_nearest(f"there is no {one_line(arguments[0])}", arguments[0], [*COMMANDS, "--help", "--version"])
        raise
