"""An HTML page as a tree, which only a page whose every element is closed becomes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"br", "hr", "img", "input", "link", "meta"}


@dataclass
class Node:
    """An element, or the page."""

    tag: str
    attributes: dict[str, str | None] = field(default_factory=dict)
    children: list[Node | str] = field(default_factory=list)

    def all(self, tag: str | None = None, **attributes: str) -> list[Node]:
        """Elements below, in order; ``class_`` is one of an element's classes."""
        wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        return [node for node in self.walk() if (tag is None or node.tag == tag) and node.has(wanted)]

    def one(self, tag: str | None = None, **attributes: str) -> Node:
        (node,) = self.all(tag, **attributes)
        return node

    def has(self, wanted: dict[str, str]) -> bool:
        classes = (self.attributes.get("class") or "").split()
        return all(
            value in classes if key == "class" else self.attributes.get(key) == value for key, value in wanted.items()
        )

    def walk(self) -> Iterator[Node]:
        for child in self.children:
            if isinstance(child, Node):
                yield child
                yield from child.walk()

    @property
    def text(self) -> str:
        """What a reader reads, without what is for screen readers alone."""
        if self.has({"class": "screen-reader"}) or self.tag == "title":
            return ""
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Node("page")
        self.open = [self.page]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, dict(attrs))
        assert len(node.attributes) == len(attrs), f"an attribute twice: {tag} {attrs}"
        self.open[-1].children.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].children.append(Node(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parse(page: str) -> Node:
    """Return the page's tree; an AssertionError if an element is not closed, or closed by another."""
    parser = _Parser()
    parser.feed(page)
    parser.close()
    assert parser.open == [parser.page], f"not closed: {[node.tag for node in parser.open[1:]]}"
    return parser.page


def rows(table: Node) -> list[list[str]]:
    """A table's body as text."""
    return [[cell.text.strip() for cell in row.children] for row in table.one("tbody").all("tr")]
