"""HTML as it is built: elements that are always closed, text that is always escaped.

Tables that readers can sort and that scroll sideways where the screen is narrow.

Wording that the parts of a report share.

Which of several figures are the best and which the second, as they are printed.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

_VOID = frozenset({"img", "input", "meta"})
_SVG_SHAPES = frozenset({"circle", "line", "path", "polyline", "rect"})
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return any text so that HTML shows it as it is; what no text may hold becomes a replacement character."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(_NOT_TEXT.sub("\ufffd", str(value))))


def element(tag: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element.

    >>> print(element("a", "Tom & Jerry", href="#cats", class_="link", hidden=False))
    <a href="#cats" class="link">Tom &amp; Jerry</a>

    Args:
        tag: its name.
        children: what is inside, in order: elements, or text that is escaped; None adds nothing.
        attributes: ``class_`` becomes ``class`` and ``aria_label`` ``aria-label``; True stands alone, None and False
            are left out.
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    if tag in _SVG_SHAPES:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def join(*children: object) -> Markup:
    """Return elements and texts one after the other; None adds nothing."""
    return Markup("".join(text(child) for child in children if child is not None))


def _attribute(key: str, value: object) -> str:
    if value is False:
        return ""
    key = key.rstrip("_").replace("_", "-")
    return f" {key}" if value is True else f' {key}="{text(value)}"'


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


DASH, MINUS = "\u2013", "\u2212"
"""Between two ends, and where a figure is not known; before a figure below zero."""

TITLES: Mapping[str, str] = MappingProxyType(
    {
        "gtot": "GTOT",
        "rgbt210": "RGBT210",
        "rgbt234": "RGBT234",
        "lasher": "LasHeR",
        "vtuav": "VTUAV",
        "lsotb-tir": "LSOTB-TIR",
        "ptb-tir": "PTB-TIR",
        "vot": "a folder of sequences",
        "synthetic": "synthetic video",
    }
)
"""What benchmarks call themselves."""

FIGURES: Mapping[str, str] = MappingProxyType(
    {"PR": "precision rate", "NPR": "normalized precision rate", "SR": "success rate"}
)
"""What the figures are called, in the order of columns."""


def several(count: int, what: str) -> str:
    """Return a count of things.

    >>> several(1, "frame"), several(2000, "frame")
    ('1 frame', '2,000 frames')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def signed(value: float) -> str:
    """Return a difference with its sign, a true minus, and none for zero.

    >>> signed(1.25), signed(-3.0), signed(-0.04)
    ('+1.2', '−3.0', '0.0')
    """
    rounded = f"{abs(value):.1f}"
    return rounded if float(rounded) == 0 else f"{'+' if value > 0 else MINUS}{rounded}"


def figure_cells(values: Sequence[float | None], *, decimals: int = 1) -> list[Markup]:
    """Return a table cell for each of some figures that compete: the best is bold, the second underlined.

    Figures that are printed alike rank alike, and a single one has no rank. None is a dash.
    """
    printed = [None if value is None else f"{value:.{decimals}f}" for value in values]
    ranked = sorted({float(each) for each in printed if each is not None}, reverse=True)
    competing = sum(each is not None for each in printed) > 1
    best, second = (*(ranked if competing else []), None, None)[:2]
    cells = []
    for each in printed:
        value = None if each is None else float(each)
        rank = None if value is None else {best: "best", second: "second"}.get(value)
        note = None if rank is None else element("span", f" ({rank})", class_="unseen")
        cells.append(element("td", DASH if each is None else each, note, class_=rank or None, data_sort=each or ""))
    return cells
