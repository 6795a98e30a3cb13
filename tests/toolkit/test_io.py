from __future__ import annotations

import json
import os
import re
import socket
import sys
from pathlib import Path

import pytest

from mmdistill.toolkit.data_issues import DataError
from mmdistill.toolkit.io import (
    atomic_path,
    check_regular_file,
    open_regular_file,
    read_bytes,
    read_json,
    read_text,
    remove_leftovers,
    temporary_path,
    write_text,
)


def test_file_appears_only_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "image.png"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_error_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "scores.json"
    target.write_text("old")

    def write_half() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_written_byte_for_byte(tmp_path: Path) -> None:
    target = tmp_path / "boxes.txt"
    write_text(target, "first\r\n")
    write_text(target, "Größe\n")
    assert target.read_bytes() == "Größe\n".encode()


def test_temporary_names_are_hidden_and_differ(tmp_path: Path) -> None:
    first, second = (temporary_path(tmp_path / "a.b.txt") for _ in range(2))
    assert first != second
    assert first.name.startswith(".a.b.")


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="folder: expected the name of a file to write, got a folder"):
        write_text(tmp_path / "folder", "text")
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        with pytest.raises(DataError, match=r"a\.json: cannot be written, .*file.* is a file, not a folder"):
            write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_device_or_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe.json", tmp_path / "link.json"
    os.mkfifo(pipe)
    link.symlink_to(pipe)
    for path, kind in ((pipe, "a named pipe"), (link, "a named pipe"), (Path("/dev/null"), "a character device")):
        with pytest.raises(DataError, match=rf"{path}: expected a regular file, found {kind}"):
            write_text(path, "text")
    assert pipe.is_fifo()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "pipe.json"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run[1].json"
    temporary_path(path).touch()
    others = [path, tmp_path / ".run[1].json", tmp_path / ".run1.0123abcd.json", tmp_path / ".run[1].0123abcd.txt"]
    for other in others:
        other.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted(others)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_only_regular_files_are_read_and_nothing_else_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "zero").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        kinds = {"pipe": "a named pipe", "folder": "a folder", "zero": "a character device", "socket": "a socket"}
        for name, kind in kinds.items():
            for read in (check_regular_file, open_regular_file, read_bytes, read_json, read_text):
                with pytest.raises(
                    DataError, match=f"^{re.escape(str(tmp_path / name))}: expected a regular file, found {kind}$"
                ):
                    read(tmp_path / name)
    for name, reason in (("missing", "No such file"), ("nu\0ll", "null")):
        with pytest.raises(DataError, match=f"cannot read the file: .*{reason}"):
            read_bytes(tmp_path / name)


def test_a_file_must_lie_below_the_folder_links_followed(tmp_path: Path) -> None:
    inside, outside = tmp_path / "run", tmp_path / "secret"
    inside.mkdir()
    outside.write_bytes(b"secret")
    (inside / "mine").write_bytes(b"mine")
    (inside / "link").symlink_to(outside)
    (inside / "own_link").symlink_to(inside / "mine")
    assert read_bytes(inside / "mine", below=inside) == b"mine"
    assert read_bytes(inside / "own_link", below=inside) == b"mine"
    for path in (inside / "link", inside / ".." / "secret", outside):
        with pytest.raises(DataError, match=r"expected a file below .*run, it lies at .*secret"):
            read_bytes(path, below=inside)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bytes(path, limit=5) == b"12345"
    with pytest.raises(DataError, match=r"file: expected at most 4 bytes"):
        read_bytes(path, limit=4)


def test_bytes_that_are_no_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    write_text(tmp_path / "names.json", json.dumps({"car\udcff": 1}, ensure_ascii=False))
    assert (tmp_path / "names.json").read_bytes() == rb'{"car\udcff": 1}'
    assert read_json(tmp_path / "names.json") == {"car\udcff": 1}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 100_000, "nested too deep"),
        ("[1]", "expected a JSON object .* got a list"),
        ("null", "expected a JSON object .* got a NoneType"),
        ('{"a": 1, "a": 2}', "duplicate key 'a'"),
        ('{"a": 1,}', "line 1: not JSON"),
        ('{"a": ' + "9" * 5000 + "}", "unsupported JSON|expected"),
        ("", "line 1: not JSON"),
    ],
)
def test_json_that_is_no_plain_object_is_refused_by_its_file(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file.json"
    path.write_text(text)
    if text.endswith("9}") and not hasattr(sys, "get_int_max_str_digits"):
        pytest.skip("this Python reads numbers of any length")
    with pytest.raises(DataError, match=rf"file\.json.*({said})"):
        read_json(path)
