from __future__ import annotations

import pytest

from mmdistill.toolkit.evaluation.formatting import format_table


def test_integers_have_no_decimals_and_floats_as_many_as_asked() -> None:
    assert format_table(["frames", "SR"], [[12, 1 / 3]], decimals=3).splitlines()[2] == "    12  0.333"


def test_a_column_with_a_word_is_text() -> None:
    assert format_table(["a", "SR"], [["x", 10.0], ["y", "none"]]).splitlines()[2:] == ["x  10.0", "y  none"]
    assert format_table(["a", "figure"], [["x", 1.0], ["y", "-"]]).splitlines()[2:] == ["x  1.0", "y  -"]


def test_no_rows() -> None:
    assert format_table(["tracker", "SR"], []) == "tracker  SR\n-------  --"


def test_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="expected 2 values, got 1"):
        format_table(["tracker", "SR"], [["student"]])
