from __future__ import annotations

from pathlib import Path

import pytest

from mmdistill.reference.errors import DataError
from mmdistill.reference.files import atomic_path, remove_leftovers, temporary_beside, write_text


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
    first, second = (temporary_beside(tmp_path / "a.b.txt") for _ in range(2))
    assert first != second
    assert first.name.startswith(".a.b.")


def test_what_is_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("kept")
    with pytest.raises(DataError, match="folder: expected the name of a file to write, there is a folder"):
        write_text(tmp_path / "folder", "text")
    for path in (tmp_path / "file" / "a.json", tmp_path / "file" / "deep" / "a.json"):
        with pytest.raises(DataError, match=r"a\.json: cannot be written, because .*file.* is a file and no folder"):
            write_text(path, "text")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "run[1].json"
    temporary_beside(path).touch()
    others = [path, tmp_path / ".run[1].json", tmp_path / ".run1.0123abcd.json", tmp_path / ".run[1].0123abcd.txt"]
    for other in others:
        other.touch()
    remove_leftovers(path)
    assert sorted(tmp_path.iterdir()) == sorted(others)
