"""Warnings are errors, except for those of other packages that pyproject.toml or a test names."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from torch_warnings import SYNC_DEBUG_MODE, default_compiler

ROOT = Path(__file__).resolve().parents[1]

PLUGIN = """
import warnings
import pytest

class PytestBenchmarkWarning(pytest.PytestWarning):
    pass

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    warnings.warn(PytestBenchmarkWarning("Benchmarks are automatically disabled because xdist plugin is active."))
    config.issue_config_time_warning(PytestBenchmarkWarning("Another warning of the plugin"), stacklevel=2)
"""

TESTS = """
import warnings

def test_without_a_warning():
    pass

def test_with_a_warning():
    warnings.warn("a warning of the code", stacklevel=1)
"""


def test_a_plugins_warning_does_not_end_the_run_and_the_codes_is_an_error(tmp_path: Path) -> None:
    plugins = tmp_path / "plugins" / "pytest_benchmark"
    plugins.mkdir(parents=True)
    (plugins / "__init__.py").write_text("")
    (plugins / "plugin.py").write_text(PLUGIN)
    (tmp_path / "test_warnings.py").write_text(TESTS)
    settings = ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(tmp_path), "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *settings, "-p", "pytest_benchmark.plugin", str(tmp_path)]
    path = f"{plugins.parent}:{ROOT}"
    found = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert "INTERNALERROR" not in found.stdout + found.stderr
    assert re.findall(r"^E +(\w+Warning: .*)$", found.stdout, re.MULTILINE) == ["UserWarning: a warning of the code"]
    assert re.findall(r"^FAILED .*::(\w+)", found.stdout, re.MULTILINE) == ["test_with_a_warning"]


@SYNC_DEBUG_MODE
def test_only_the_warning_of_the_sync_debug_mode_is_expected() -> None:
    warnings.warn(
        "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations "
        "(Triggered internally at /pytorch/torch/csrc/cuda/Module.cpp:1063.)",
        UserWarning,
        stacklevel=1,
    )
    with pytest.raises(UserWarning, match="synchronizing"):
        warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)


@default_compiler
def test_only_the_compilers_own_warnings_are_expected() -> None:
    for text in ("deprecated. Please switch to `torch.compile`", "not supported in Python 3.14+ and may break."):
        warnings.warn(f"`torch.jit.script_method` is {text}", DeprecationWarning, stacklevel=1)
    warnings.warn(
        "TensorFloat32 tensor cores for float32 matrix multiplication available but not enabled. Consider setting "
        "`torch.set_float32_matmul_precision('high')` for better performance.",
        UserWarning,
        stacklevel=1,
    )
    warnings.warn("\nOnline softmax is disabled on the fly since Inductor decides to split", UserWarning, stacklevel=1)
    with pytest.raises(DeprecationWarning):
        warnings.warn("`torch.jit.script` is deprecated", DeprecationWarning, stacklevel=1)
    with pytest.raises(UserWarning, match="TensorFloat32"):
        warnings.warn("TensorFloat32 is a type", UserWarning, stacklevel=1)
