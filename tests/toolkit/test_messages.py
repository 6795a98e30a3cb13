"""What is printed of names and errors that somebody else chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdistill.cli.main import main
from mmdistill.toolkit.box_files import write_boxes
from mmdistill.toolkit.data_issues import MAX_MESSAGE, DataError, one_line, printable
from mmdistill.toolkit.video import VideoWriter, open_frames


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
    command = [sys.executable, "-m", "mmdistill", "score", "--benchmark", "lasher", "--results", str(folder)]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([*command, "--annotations", str(folder)], capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert len(line) <= MAX_MESSAGE + len("mmdistill: ")
    assert rb"\xff\x1b[31mnnn" in line
    assert b"\x1b" not in line


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere names are Unicode")
def test_names_of_any_bytes_are_scored_and_reported(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = [os.fsdecode(b"car\xff"), "m\x1b[31man", "line\nend", "\u81ea\u8ee2\u8eca"]
    tracker = tmp_path / os.fsdecode(b"tracker\xfe\x1b[1m")
    for name in names:
        for folder in (tmp_path / "annos", tracker):
            write_boxes(folder / f"{name}.txt", [[10, 20, 30, 40]] * 10)
    (tracker / "\x1b[2Jstray.txt").touch()
    given = ["--benchmark", "vot", "--annotations", str(tmp_path / "annos")]
    scored = tmp_path / os.fsdecode(b"scored\xff")
    export = ["--per-sequence", "--export", str(scored / "export"), "--plot-format", "svg"]
    assert main(["score", *given, "--results", str(tracker), "--out", str(scored), *export]) == 0
    assert main(["report", str(tracker), *given, "--out", str(scored / "report.html")]) == 0
    assert main(["report", str(scored), "--out", str(tmp_path / "report.html")]) == 0
    out, error = capfd.readouterr()
    assert error == ""
    assert "\x1b" not in out
    for name in (r"car\xff ", r"m\x1b[31man ", r"line\nend ", names[3], r"\x1b[2Jstray.txt", r"tracker\xfe\x1b[1m"):
        assert name in out
    content = json.loads((scored / "scores.json").read_text("utf-8"))
    assert set(content["sequences"]) == set(names)
    for page in (scored / "report.html", tmp_path / "report.html"):
        assert names[3] in page.read_text("utf-8")


def test_videos_whose_name_is_not_utf_8(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    with pytest.raises(DataError, match="expected a name in UTF-8"):
        VideoWriter(tmp_path / os.fsdecode(b"video\xff.gif"), 25)
    name = tmp_path / os.fsdecode(b"video\xff.mp4")
    try:
        name.write_bytes(b"video")
    except (OSError, UnicodeEncodeError):
        pytest.skip("this file system has no such names")
    with pytest.raises(DataError, match=r"mp4: cannot open the video"):
        open_frames(name)
    with VideoWriter(name, 25) as video:
        video.write(image)
    assert len(open_frames(name)) == 1
    assert list(tmp_path.iterdir()) == [name]
