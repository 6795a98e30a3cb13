"""A pytest plugin for runs that are cut short: later runs do the tests that are left, and no run outlasts its time.

Use: ``pytest -p parts.gpu.resumed_tests --progress-file FILE --seconds 200``. The file has a line for each start and
each end of a test. A test that started but never ended may hang: it runs last.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

OUTCOMES = ("failed", "skipped", "passed")
"""A test has the first of these that one of its phases (setup, call, teardown) has."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    parser.addoption("--progress-file", type=Path, required=True, help="file of the tests that started and ended")
    parser.addoption("--seconds", type=float, default=float("inf"), help="start no test after this many seconds")


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin's hooks."""
    end = time.monotonic() + config.getoption("--seconds")
    config.pluginmanager.register(ResumedTests(config.getoption("--progress-file"), end))


class ResumedTests:
    """Selects the tests that are left, and records each.

    Args:
        file: the record of all runs, one JSON object a line.
        end: time of ``time.monotonic()`` from which no test starts.
    """

    def __init__(self, file: Path, end: float) -> None:
        self.file, self.end = file, end
        lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        self.outcomes: dict[str, str] = {line["test"]: line["outcome"] for line in lines if line["outcome"]}
        self.hanging = {line["test"] for line in lines} - self.outcomes.keys()
        self._phases: dict[str, set[str]] = {}
        self._left = 0
        self._session: pytest.Session | None = None

    def pytest_collection_modifyitems(
        self, session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Keep the tests that are left."""
        self._session = session
        ended = [item for item in items if item.nodeid in self.outcomes]
        left = [item for item in items if item.nodeid not in self.outcomes]
        items[:] = sorted(left, key=lambda item: item.nodeid in self.hanging)
        config.hook.pytest_deselected(items=ended)
        self._left = len(items)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Record that a test starts."""
        self._write(nodeid, "")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record the outcome of a test after its last phase; end the run if its time is over."""
        phases = self._phases.setdefault(report.nodeid, set())
        phases.add(report.outcome)
        if report.when == "teardown":
            self.outcomes[report.nodeid] = next(each for each in OUTCOMES if each in phases)
            self._left -= 1
            self._write(report.nodeid, self.outcomes[report.nodeid])
            if self._left and self._session is not None and time.monotonic() > self.end:
                self._session.shouldstop = "the time is over"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the outcomes of all runs."""
        for nodeid, outcome in self.outcomes.items():
            if outcome == "failed":
                terminalreporter.write_line(f"failed in this run or an earlier one: {nodeid}")
        found = list(self.outcomes.values())
        counts = ", ".join(f"{found.count(outcome)} {outcome}" for outcome in OUTCOMES)
        terminalreporter.write_line(f"tests of all runs: {counts}; unfinished tests: {self._left}")

    def _write(self, test: str, outcome: str) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps({"test": test, "outcome": outcome}) + "\n")
