"""Parses a command's arguments by the annotations of its parameters, and calls it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any, get_type_hints

import tyro

from mmdistill.cli.arguments import ArgumentError
from mmdistill.toolkit.data_issues import one_line
from mmdistill.toolkit.ranges import check_options, unchecked

HELP_INDENT = 8
"""Spaces before an option's description in an error of tyro."""


def call(command: Callable[..., None], name: str, arguments: Sequence[str]) -> None:
    """Call a command with its arguments.

    Args:
        command: The function.
        name: The command's name.
        arguments: The words after the name.

    Raises:
        ArgumentError: An option is unknown, missing, or not of its type.
        RangeError: An option is out of its range.
        SystemExit: tyro printed the help.
    """

    @functools.wraps(command)
    def bind(*positional: Any, **options: Any) -> inspect.BoundArguments:
        return inspect.signature(command).bind(*positional, **options)

    parse: Any = bind
    errors = io.StringIO()
    try:
        with unchecked(), redirect_stderr(errors), _one_line_errors(arguments), _unblocked_torch():
            bound: inspect.BoundArguments = tyro.cli(parse, prog=f"mmdistill {name}", args=arguments)
    except SystemExit as stop:
        if stop.code != 2:
            raise
        problem = _unknown_option(command, arguments) or _missing_options(command, arguments)
        problem = problem or _error_text(errors.getvalue())
        raise ArgumentError(f"{name}: {one_line(problem)}{_hint(name, arguments)}") from None
    check_options(command, bound.arguments)
    command(*bound.args, **bound.kwargs)


@contextmanager
def _one_line_errors(arguments: Sequence[str]) -> Iterator[None]:
    """Let tyro write errors without line breaks; the help keeps the width of the terminal."""
    width = os.environ.get("COLUMNS")
    if {"-h", "--help"} & set(arguments):
        yield
        return
    os.environ["COLUMNS"] = "10000"
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if width is not None:
            os.environ["COLUMNS"] = width


@contextmanager
def _unblocked_torch() -> Iterator[None]:
    """Hide that PyTorch is blocked by ``sys.modules["torch"] = None``: tyro imports it if the name is there."""
    blocked = sys.modules.get("torch", ...) is None
    if blocked:
        del sys.modules["torch"]
    try:
        yield
    finally:
        if blocked:
            sys.modules["torch"] = None  # type: ignore[assignment]


def _error_text(errors: str) -> str:
    """Return the message inside tyro's frame, which may be in ASCII, without title and descriptions of options."""
    words = []
    lines = [line.strip("│") for line in errors.splitlines() if line.strip(" ─-╰╯│")]
    for text in lines[1:]:
        if text.startswith(" " * HELP_INDENT):
            continue
        if text.strip().startswith(("Argument helptext", "For full helptext")):
            break
        words.append(text.strip())
    return " ".join(words)


def _hint(name: str, arguments: Sequence[str]) -> str:
    """Return the hint that TIR-CMD is a command of its own, where ``train tir`` has no data."""
    words = {argument.partition("=")[0] for argument in arguments}
    without_data = name == "train" and "tir" in words and not words & {"--data", "--rgb", "--tir"}
    return "; without labels: mmdistill adapt-tir" if without_data else ""


def _unknown_option(command: Callable[..., None], arguments: Sequence[str]) -> str | None:
    """Return the error for the first option that the command does not have, with the nearest one."""
    known = [f"--{name}" for name in option_names(command)]
    for argument in arguments:
        option = argument.partition("=")[0].replace("_", "-")
        if option.startswith("--") and option not in (*known, "--", "--help"):
            nearest = difflib.get_close_matches(option, known, n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            return f"no option {one_line(option)}{hint}"
    return None


def _missing_options(command: Callable[..., None], arguments: Sequence[str]) -> str | None:
    """Return the error for options without a default that are not among the arguments."""
    words = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    required = [
        f"--{name.replace('_', '-')}"
        for name, parameter in inspect.signature(command).parameters.items()
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY and parameter.default is inspect.Parameter.empty
    ]
    missing = [option for option in required if option not in words]
    return f"missing {' and '.join(missing)}" if missing else None


def option_names(command: Callable[..., object], prefix: str = "") -> Iterator[str]:
    """Yield the names of a command's options: fields of settings with dots, flags with and without ``no-``.

    Args:
        command: A function or a settings dataclass.
        prefix: The name of the option that holds these, with a dot.
    """
    hints = get_type_hints(command)
    for name, parameter in inspect.signature(command).parameters.items():
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
            continue
        option = prefix + name.replace("_", "-")
        if dataclasses.is_dataclass(hints[name]) and isinstance(hints[name], type):
            yield from option_names(hints[name], f"{option}.")
        else:
            yield option
        if isinstance(parameter.default, bool):
            yield f"{prefix}no-{option.removeprefix(prefix)}"
