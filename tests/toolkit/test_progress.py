from __future__ import annotations

import sys

import pytest

from mmdistill.toolkit.progress import ProgressBar, ProgressLines, TerminalBar, progress_bar


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_line_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    with ProgressLines(2_000, "teacher", "step", 1_000, clock=clock) as bar:
        for _ in range(125):
            clock.now += 0.25
            bar.set_postfix({"total": "0.5", "waited": "3%"})
            bar.update()
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "teacher: step 1,040 of 2,000, 4 per second, 04:00 left, total 0.5, waited 3%",
        "teacher: step 1,080 of 2,000, 4 per second, 03:50 left, total 0.5, waited 3%",
        "teacher: step 1,120 of 2,000, 4 per second, 03:40 left, total 0.5, waited 3%",
    ]
    assert bar.shown


def test_a_unit_that_takes_longer_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    bar = ProgressLines(None, "tracking", "frame", clock=clock)
    for _ in range(2):
        clock.now += 25
        bar.update()
    assert capsys.readouterr().err.splitlines() == [
        "tracking: frame 1, 0.04 per second",
        "tracking: frame 2, 0.04 per second",
    ]


def test_what_ends_soon_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar(3, "tracking", "frame") as bar:
        for _ in range(3):
            bar.update()
    assert isinstance(bar, ProgressLines)
    assert not bar.shown
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [False, True])
def test_quiet_prints_nothing(
    terminal: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    with progress_bar(3, "tracking", "frame", quiet=True) as bar:
        bar.set_description("1 of 3")
        bar.set_postfix({"total": 1})
        bar.update()
    assert type(bar) is ProgressBar
    assert not bar.shown
    assert capsys.readouterr() == ("", "")


def test_a_terminal_has_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress_bar(3, "tracking", "frame", initial=1) as bar:
        bar.set_postfix({"total": 1})
        bar.update(2)
    assert isinstance(bar, TerminalBar)
    assert "3/3" in capsys.readouterr().err


def test_a_process_without_standard_error_works_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with progress_bar(3, "tracking", "frame") as bar:
        bar.update()


def test_a_full_disk_under_the_log_stops_no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    bar = ProgressLines(3, "tracking", "frame", clock=clock)
    clock.now += 10

    def full(_: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.stderr, "write", full)
    bar.update()
