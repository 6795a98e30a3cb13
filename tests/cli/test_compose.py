"""``mmdistill compose``."""

from pathlib import Path

import numpy as np
import pytest
from command_line import fails, run
from pair_folders import write_pairs

from mmdistill.toolkit.datasets import folder_sequence as folders
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.images import write_image


def test_compose_writes_sequences_that_evaluate_reads(weights: Path, tmp_path: Path) -> None:
    assert run("compose", "--count", 1, "--length", 3, "--out", tmp_path / "made") == 0
    out = tmp_path / "scored"
    assert run("evaluate", "--benchmark", "vot", "--root", tmp_path / "made", "--weights", weights, "--out", out) == 0


def test_a_folder_with_a_terminal_escape_is_printed_safely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compose", "--count", 1, "--length", 1, "--out", tmp_path / "\x1b[31mred", "--quiet") == 0
    assert capsys.readouterr() == (f"{tmp_path}/\\x1b[31mred\n", "")


def test_compose_resumes_after_an_interruption(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    options = ["compose", "--count", 2, "--length", 3, "--out"]
    assert run(*options, whole) == 0

    written = []

    def stop_in_the_second(path: Path, image: object) -> None:
        written.append(path)
        if len(written) == 10:
            raise KeyboardInterrupt
        write_image(path, image)

    with monkeypatch.context() as patch:
        patch.setattr(folders, "write_image", stop_in_the_second)
        assert run(*options, out) == 130
    assert sorted(path.name for path in out.iterdir()) == ["compose.json", "synthetic_0000"]
    first = out / "synthetic_0000" / "groundtruth.txt"
    before = first.stat().st_mtime_ns
    for _ in range(2):
        assert run(*options, out) == 0
    assert first.stat().st_mtime_ns == before, "what is there is kept"
    for path in whole.rglob("*.jpg"):
        assert (out / path.relative_to(whole)).read_bytes() == path.read_bytes()
    capsys.readouterr()
    assert "composed with other options" in fails(capsys, *options, out, "--seed", 7)


def test_compose_takes_two_folders_of_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs(tmp_path / "pairs", 2, (96, 72))
    (pairs / "rgb").rename(pairs / "left")
    given = ["--count", 1, "--length", 2]
    assert run("compose", "--out", tmp_path / "a", "--rgb", pairs / "left", "--tir", pairs / "tir", *given) == 0
    assert [len(video) for video in read_sequences(tmp_path / "a")] == [2]
    line = fails(capsys, "compose", "--out", tmp_path / "b", "--rgb", pairs / "left", *given, status=2)
    assert "--tir: expected a folder" in line
    assert run("compose", "--out", tmp_path / "b", "--pairs", pairs, "--side-by-side", *given) == 0
    assert len(read_sequences(tmp_path / "b")) == 1


def test_pairs_too_small_to_compose_from_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("rgb", "tir"):
        for number in range(2):
            write_image(tmp_path / "pairs" / side / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    assert run("compose", "--pairs", tmp_path / "pairs", "--out", tmp_path / "out") == 1
    printed = capsys.readouterr().err
    assert ".png: expected an image of at least 9 x 9 pixels, got 8 x 8" in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run("check", "--benchmark", "pairs", "--root", tmp_path / "pairs", "--decode") == 1
    assert "0 of 2 pairs can be used" in capsys.readouterr().out
