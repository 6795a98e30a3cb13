"""How commands are told where pairs lie: --pairs, --data or --root; --rgb and --tir; --side-by-side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pair_folders import write_pairs

from mmdistill.cli.main import main
from mmdistill.toolkit.datasets.folder_sequence import read_sequences
from mmdistill.toolkit.images import write_image


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 2, (96, 72))


def test_compose_takes_two_folders_of_any_name(pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (pairs / "rgb").rename(pairs / "left")
    given = ["--count", 1, "--length", 2]
    assert run("compose", "--out", tmp_path / "a", "--rgb", pairs / "left", "--tir", pairs / "tir", *given) == 0
    assert [len(video) for video in read_sequences(tmp_path / "a")] == [2]
    assert run("compose", "--out", tmp_path / "b", "--rgb", pairs / "left", *given) == 1
    assert "--tir: expected a folder" in capsys.readouterr().err
    assert run("compose", "--out", tmp_path / "b", "--pairs", pairs, "--side-by-side", *given) == 0
    assert len(read_sequences(tmp_path / "b")) == 1


def test_pairs_too_small_to_compose_from_are_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for side in ("rgb", "tir"):
        for number in range(2):
            write_image(tmp_path / "pairs" / side / f"{number}.png", np.zeros((8, 8, 3), np.uint8))
    assert run("compose", "--pairs", tmp_path / "pairs", "--out", tmp_path / "out") == 1
    said = capsys.readouterr().err
    assert ".png: expected an image of at least 9 x 9 pixels, got 8 x 8" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert run("evaluate", "--benchmark", "pairs", "--root", tmp_path / "pairs", "--check-images") == 1
    assert "0 of 2 pairs can be used" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["compose", "train teacher", "evaluate"])
def test_the_folder_of_one_modality_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    where: list[object] = ["--out", tmp_path / "out"]
    if command == "evaluate":
        where = ["--benchmark", "pairs", "--check", "--root", pairs / "rgb"]
    elif command == "train teacher":
        where += ["--data", pairs / "rgb", "--width", 4, "--crop-size", 64]
    else:
        where += ["--pairs", pairs / "rgb"]
    assert run(*command.split(), *where) == 1
    assert (
        f"{pairs / 'rgb'}: has RGB images only, by the name 'rgb' beside 'tir'; give {pairs}" in capsys.readouterr().err
    )


def test_check_takes_two_folders_and_lists_what_is_odd(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(pairs / "tir" / "01.png", np.zeros((90, 160, 3), np.uint8))
    write_image(pairs / "tir" / "02.png", np.zeros((90, 160, 3), np.uint8))
    write_image(pairs / "labels" / "01.png", np.zeros((9, 9, 3), np.uint8))
    (pairs / "__MACOSX").mkdir()
    for where in (["--root", pairs], ["--rgb", pairs / "rgb", "--tir", pairs / "tir"]):
        assert run("evaluate", "--benchmark", "pairs", "--check-images", *where) == 1
        said = capsys.readouterr().out
        assert "160 x 90 (16:9)" in said
        assert "02.png: expected an RGB image of the same name" in said
        assert "2 of 3 pairs can be used" in said
        assert ("labels: 1 images" in said) == ("__MACOSX" in said) == (where[0] == "--root")
    assert run("evaluate", "--benchmark", "gtot", "--rgb", pairs, "--tir", pairs, "--root", tmp_path) == 1
    assert "--benchmark pairs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"), [("train tir --setting A1 --from none", "--pairs:"), ("train rgb", "--data:")]
)
def test_without_any_pairs_the_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str
) -> None:
    assert run(*command.split(), "--out", tmp_path / "out") == 1
    assert option in capsys.readouterr().err
