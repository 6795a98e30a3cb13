"""The options that say where image pairs are: --pairs, --data or --root; --rgb and --tir; --side-by-side."""

from pathlib import Path

import pytest
from command_line import fails, run
from pair_folders import write_pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "pairs", 2, (96, 72))


@pytest.mark.parametrize("command", ["compose", "train teacher", "check"])
def test_the_folder_of_one_modality_is_refused(
    pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    where: list[object] = ["--out", tmp_path / "out"]
    if command == "check":
        where = ["--benchmark", "pairs", "--root", pairs / "rgb"]
    elif command == "train teacher":
        where += ["--data", pairs / "rgb", "--width", 4, "--crop-size", 64]
    else:
        where += ["--pairs", pairs / "rgb"]
    assert run(*command.split(), *where) == 1
    assert f"{pairs / 'rgb'}: is RGB alone, as 'rgb' says, beside 'tir'; give {pairs}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"), [("adapt-tir --setting A1 --weights none", "--pairs:"), ("train rgb", "--data:")]
)
def test_without_any_pairs_the_options_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, option: str
) -> None:
    assert option in fails(capsys, *command.split(), "--out", tmp_path / "out", status=2)
