"""Marks the benchmarks' tests as nightly and slow."""

from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.nightly)
            item.add_marker(pytest.mark.slow)
