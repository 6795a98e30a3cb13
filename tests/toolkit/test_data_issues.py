from __future__ import annotations

from mmdistill.toolkit.data_issues import DataIssues


def test_kinds_are_counted_and_details_listed() -> None:
    first, second = DataIssues(), DataIssues()
    first.add("once")
    for _ in range(3):
        first.add("often")
    second.add("short", "car")
    second.add("often")
    first.extend(second)
    assert len(first) == 6
    assert first.lines() == ["once", "often: 4", "short: 1", "  car"]
    assert DataIssues().lines() == []


def test_the_number_of_details_is_limited() -> None:
    data_issues = DataIssues()
    for name in "abcd":
        data_issues.add("short", name)
    assert data_issues.lines(max_details=2) == ["short: 4", "  a", "  b", "  and 2 more"]
    assert data_issues.lines(max_details=4) == ["short: 4", "  a", "  b", "  c", "  d"]
