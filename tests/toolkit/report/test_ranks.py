from __future__ import annotations

import pytest
from page_tree import parse

from mmdistill.toolkit.report.markup import ranked_cells


@pytest.mark.parametrize(
    ("values", "ranks"),
    [
        ([1.0, 3.0, 2.0], [None, "best", "second"]),
        ([9.96, 10.04, 9.9], ["best", "best", "second"]),  # printed as 10.0, 10.0, 9.9
        ([5.0], [None]),
        ([5.0, None], [None, None]),
        ([5.0, None, 6.0], ["second", None, "best"]),
        ([4.0, 4.0], ["best", "best"]),
        ([100.0, 9.5, 20.0], ["best", None, "second"]),
    ],
)
def test_best_and_second_as_they_are_printed(values: list[float | None], ranks: list[str | None]) -> None:
    cells = [parse(cell).one("td") for cell in ranked_cells(values)]
    assert [cell.attributes.get("class") for cell in cells] == ranks
    shown = ["\u2013" if value is None else f"{value:.1f}" for value in values]
    assert [cell.text for cell in cells] == shown
    # The same for those who can't see it.
    said = [
        "".join(str(child) for node in cell.all(class_="screen-reader") for child in node.children) for cell in cells
    ]
    assert said == [f" ({rank})" if rank else "" for rank in ranks]
