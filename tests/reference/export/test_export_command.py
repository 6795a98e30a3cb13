"""``mmdistill export``: options and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
from exported import need_exporter, untrained

from mmdistill.cli.main import main
from mmdistill.reference.export import files, runtime
from mmdistill.reference.export.runtime import OnnxGraph
from mmdistill.reference.models.weights import save_network
from mmdistill.toolkit.data_issues import DataError

need_exporter()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "network.safetensors"
    save_network(path, untrained())
    return path


def test_invalid_arguments_are_refused(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: object, status: int = 1) -> str:
        assert main(["export", *map(str, arguments)]) == status
        (line,) = capsys.readouterr().err.splitlines()
        return line

    given = ("--weights", weights, "--out", tmp_path / "out")
    file = tmp_path / "out" / "model.onnx"
    assert f"--out: expected a folder, got the file {file}" in fails("--weights", weights, "--out", file, status=2)
    assert "none: there is no such file" in fails("--weights", tmp_path / "none", "--out", tmp_path / "out")
    for precision in ("float32", "float16"):
        line = fails(*given, "--precision", precision, "--calibration", tmp_path, status=2)
        assert f"--calibration: is for --precision int8; {precision} needs none" in line
    int8 = (*given, "--precision", "int8")
    assert "at least 4 crops for calibration, got 3" in fails(*int8, "--crops", 3)
    for option in ("--crops", "--slots"):
        assert main(["export", *map(str, int8), option, "0"]) == 2
        assert f"{option}: expected a whole number from 1" in capsys.readouterr().err
    assert f"{tmp_path / 'away'}" in fails(*int8, "--calibration", tmp_path / "away")

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(runtime.importlib, "import_module", missing)
    assert "onnx is not installed; pip install 'mmdistill[export]'" in fails(*given)
    assert not (tmp_path / "out").exists()


def test_options_reach_the_export(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(files, "write_files", lambda *values, **named: given.append((values[1:], named)) or [])
    arguments = ["--weights", str(weights), "--out", str(tmp_path / "out")]
    assert main(["export", *arguments, "--precision", "float16", "--slots", "3"]) == 0
    assert main(["export", *arguments, "--quiet"]) == 0
    folder = tmp_path / "out"
    first, second = {"slots": 3, "progress": True}, {"slots": 1, "progress": False}
    assert given == [((folder, "float16", []), first), ((folder, "float32", []), second)]


def test_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        OnnxGraph(tmp_path / "model.onnx")
    (tmp_path / "model.onnx").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"model\.onnx: onnxruntime can't load it"):
        OnnxGraph(tmp_path / "model.onnx")
