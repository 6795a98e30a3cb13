"""HTML as it is built: elements that are always closed, text that is always escaped."""

from __future__ import annotations

import html
import re

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
