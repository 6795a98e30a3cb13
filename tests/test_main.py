import builtins
from typing import Any

import pytest

from mmdistill.__main__ import main


def test_ctrl_c_while_modules_are_imported_is_printed_on_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = builtins.__import__

    def interrupted(name: str, *arguments: Any) -> Any:
        if name == "mmdistill.cli.main":
            raise KeyboardInterrupt
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", interrupted)
    assert main() == 130
    assert capsys.readouterr() == ("", "mmdistill: interrupted\n")
