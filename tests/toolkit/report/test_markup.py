from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from page_tree import parse

from mmdistill.toolkit.report.markup import Markup, element, escape, join


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_comes_back_as_text_and_as_attribute(shown: str, said: str) -> None:
    (paragraph,) = parse(element("p", element("b", shown), title=said)).children
    assert [child.tag for child in paragraph.children] == ["b"]

    def readable(value: str) -> str:
        return "".join(c if c in "\t\n\r" or (ord(c) > 31 and ord(c) != 127) else "\ufffd" for c in value)

    assert paragraph.text == readable(shown)
    assert paragraph.attributes["title"] == readable(said)


def test_a_file_name_that_is_no_utf8_can_be_written() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    assert escape(name).encode("utf-8").decode() == "caf\ufffd"


def test_what_is_markup_is_not_escaped_again() -> None:
    inner = element("i", "a & b")
    assert join(inner, None, " < ") == "<i>a &amp; b</i> &lt; "
    assert isinstance(join(inner), Markup)


def test_attributes_that_are_zero_stay_and_those_that_are_off_go() -> None:
    made = element("line", x1=0, y1=0.0, hidden=False, tabindex=None, data_on=True, class_="a")
    assert made == '<line x1="0" y1="0.0" data-on class="a"/>'
    assert element("img", alt="") == '<img alt="">'
