"""``mmdistill check``: what is missing or odd in a benchmark's copy or in image pairs."""

from pathlib import Path

import numpy as np
import pytest
from command_line import fails, lasher_copy, run
from pair_folders import write_pairs

from mmdistill.toolkit.datasets.lasher import official_test_names
from mmdistill.toolkit.images import write_image


def test_issues_are_listed_and_usable_sequences_counted(rgbt234: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["check", "--benchmark", "rgbt234", "--root", rgbt234]
    assert run(*command) == 0
    assert f"{rgbt234}: 2 of 2 sequences can be used" in capsys.readouterr().out
    (rgbt234 / "car" / "infrared.txt").write_text("1,2,3,4\n1,2,3\n")
    broken = sorted((rgbt234 / "boy`s bag" / "visible").iterdir())[1]
    broken.write_bytes(broken.read_bytes()[:-20])
    assert run(*command) == 1
    captured = capsys.readouterr()
    assert "car/infrared.txt, line 2: expected 4 numbers, got '1,2,3'" in captured.out
    assert f"{rgbt234}: 1 of 2 sequences can be used" in captured.out
    assert captured.err == f"mmdistill: {rgbt234}: 1 sequences can't be used, as listed\n"
    assert run(*command, "--decode") == 1
    assert f"{broken}: the image is cut off" in capsys.readouterr().out


def test_pairs_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = np.zeros((9, 12, 3), np.uint8)
    for side in ("visible", "lwir"):
        for name in ("I0", "I1", "I2"):
            write_image(tmp_path / "set00" / "V000" / side / f"{name}.png", image)
    command = ["check", "--benchmark", "pairs", "--root", tmp_path]
    assert run(*command, "--decode") == 0
    assert capsys.readouterr().out == f"{tmp_path}: 3 of 3 pairs can be used\n"

    lwir = tmp_path / "set00" / "V000" / "lwir"
    (lwir / "I0.png").unlink()
    (lwir / "I1.png").write_bytes(b"")
    (lwir / "I2.png").write_bytes((lwir / "I2.png").read_bytes()[:-20])
    for options, usable in (([], 1), (["--decode"], 0)):
        assert run(*command, *options) == 1
        captured = capsys.readouterr()
        assert "files and folders that make no pair, left out: 1\n" in captured.out
        assert f"pairs that can't be read: {2 - usable}\n" in captured.out
        assert "I0.png: has no partner" in captured.out
        assert f"{lwir / 'I1.png'}: " in captured.out
        assert captured.out.endswith(f"{tmp_path}: {usable} of 3 pairs can be used\n")
        assert captured.err == f"mmdistill: {tmp_path}: {3 - usable} pairs can't be used, as listed\n"


@pytest.mark.parametrize("split", ["test", "train", "all"])
@pytest.mark.parametrize("command", ["check", "score"])
def test_a_copy_without_the_whole_split_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str, command: str
) -> None:
    options = lasher_copy(tmp_path, [official_test_names()[0], "made_1"])
    arguments = [command, *(options if command == "score" else options[:4]), "--split", split]
    figures = {"test": "1 of 245", "train": "1 of 979", "all": "2 of 1,224"}[split]
    line = fails(capsys, *arguments)
    assert f"lasher, {split} split" in line
    assert f"{figures} sequences" in line
    assert "--partial" in line
    assert run(*arguments, "--partial") == 0
    assert f"{figures} sequences" in capsys.readouterr().out.splitlines()[0]


def test_two_folders_are_checked_and_issues_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = write_pairs(tmp_path / "pairs", 2, (96, 72))
    write_image(pairs / "tir" / "01.png", np.zeros((90, 160, 3), np.uint8))
    write_image(pairs / "tir" / "02.png", np.zeros((90, 160, 3), np.uint8))
    write_image(pairs / "labels" / "01.png", np.zeros((9, 9, 3), np.uint8))
    (pairs / "__MACOSX").mkdir()
    for where in (["--root", pairs], ["--rgb", pairs / "rgb", "--tir", pairs / "tir"]):
        assert run("check", "--benchmark", "pairs", "--decode", *where) == 1
        printed = capsys.readouterr().out
        assert "Data issues and how they were handled:" in printed
        assert "160 x 90 (16:9)" in printed
        assert "02.png: has no partner" in printed
        assert "2 of 3 pairs can be used" in printed
        assert ("labels: 1 images" in printed) == ("__MACOSX" in printed) == (where[0] == "--root")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gtot"], "--root: expected the folder of the sequences"),
        (["gtot", "--root", "HERE", "--annotations", "HERE"], "--annotations: leave it out"),
        (["gtot", "--root", "HERE", "--rgb", "HERE", "--tir", "HERE"], "--benchmark pairs"),
        (["gtot", "--root", "HERE", "--split", "train"], "--split: only lasher has splits"),
        (["pairs"], "--root: expected a folder"),
        (["pairs", "--root", "HERE", "--annotations", "HERE"], "--annotations: image pairs have none"),
        (["pairs", "--root", "HERE", "--results", "HERE"], "no option --results"),
        (["synthetic"], "'synthetic'"),
    ],
)
def test_wrong_arguments(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    words = [tmp_path if each == "HERE" else each for each in arguments]
    assert message in fails(capsys, "check", "--benchmark", *words, status=2)
