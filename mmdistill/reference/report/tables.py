"""Tables that readers can sort and that scroll sideways where the screen is narrow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmdistill.reference.report.markup import Markup, element


@dataclass(frozen=True)
class Column:
    """A column's head.

    Attributes:
        title: short.
        explained: what the title stands for, shown on pointing.
        number: whether figures are in it, which stand to the right and are sorted downwards first.
        sorted_down: whether the rows are sorted by it, the highest first.
    """

    title: Markup | str
    explained: str | None = None
    number: bool = True
    sorted_down: bool = False


def sortable_table(
    caption: Markup | str, columns: Iterable[Column], rows: Iterable[Markup], *, class_: str | None = None
) -> Markup:
    """Return a table in a box that scrolls; the script makes its heads buttons that sort.

    Args:
        caption: what the table shows.
        columns: from left to right.
        rows: each a ``tr`` whose cells may say in ``data-sort`` by what they are sorted.
        class_: more CSS classes.
    """
    heads = [
        element(
            "th",
            column.title,
            scope="col",
            title=column.explained,
            class_=None if column.number else "words",
            aria_sort="descending" if column.sorted_down else None,
        )
        for column in columns
    ]
    table = element(
        "table",
        element("caption", element("span", caption)),
        element("thead", element("tr", *heads)),
        element("tbody", *rows),
        class_=f"sortable {class_ or ''}".strip(),
    )
    return element("div", table, class_="scrolling", tabindex=0, role="region", aria_label="Table")
