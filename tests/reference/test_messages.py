"""What is printed of names and errors that somebody else chose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.reference.errors import MAX_MESSAGE, one_line, printable


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Straße 自転車`'\u3000x", "Straße 自転車`'\u3000x"),
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\r\tc\x00", r"a\nb\r\tc\x00"),
        ("x\u202egnp.exe", r"x\u202egnp.exe"),
        ("a\udcffb", r"a\xffb"),
        ("a\ud800b", r"a\ud800b"),
        ("a\x9b31mb", r"a\x9b31mb"),
    ],
)
def test_what_a_terminal_acts_on_is_visible(text: str, printed: str) -> None:
    assert printable(text) == printed


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    line = one_line("names.txt: " + "x" * 2_000_000 + ", expected 4 numbers")
    assert len(line) == MAX_MESSAGE
    assert line.startswith("names.txt: xxx")
    assert line.endswith("xxx, expected 4 numbers")
    assert " ... " in line


@given(st.text(alphabet=st.characters(), max_size=700))
def test_a_message_is_one_printable_line_that_can_be_written(text: str) -> None:
    line = one_line(text)
    assert len(line) <= MAX_MESSAGE
    assert line.splitlines() in ([], [line])
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in line)
    line.encode("utf-8")


def test_errors_of_the_command_line_are_short_clean_and_never_a_traceback(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\x1b[31m" + b"n" * 200)
    folder = tmp_path / name / name / name
    command = [sys.executable, "-m", "mmdistill", "evaluate", "--benchmark", "lasher", "--results", str(folder)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "--annotations", str(folder)], capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert len(line) <= MAX_MESSAGE + len("mmdistill: ")
    assert rb"\xff\x1b[31mnnn" in line
    assert b"\x1b" not in line
