from __future__ import annotations

from importlib.resources import files
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_tree import parse

from mmdistill.toolkit.report.markup import (
    DARK_BACKGROUND,
    DARK_COLORS,
    LIGHT_BACKGROUND,
    LIGHT_COLORS,
    LineStyle,
    Markup,
    color_css,
    element,
    escape,
    join,
    ranked_cells,
)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_text_and_attributes_are_escaped(shown: str, said: str) -> None:
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


# How people see who lack one kind of cone: Machado, Oliveira and Fernandes, 2009, severity 1, on linear RGB.
VISIONS = {
    "all": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(color: str) -> np.ndarray:
    values = np.array([int(color[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(linear(color) @ (0.2126, 0.7152, 0.0722)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / (0.9505, 1, 1.089)
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize(("colors", "ground"), [(LIGHT_COLORS, LIGHT_BACKGROUND), (DARK_COLORS, DARK_BACKGROUND)])
@pytest.mark.parametrize("vision", list(VISIONS))
def test_every_reader_can_tell_the_colors_apart(colors: tuple[str, ...], ground: str, vision: str) -> None:
    assert min(contrast(color, ground) for color in colors) >= 3  # WCAG 2, graphical objects
    seen = [lab(np.array(VISIONS[vision]) @ linear(color)) for color in colors]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 20


def test_the_backgrounds_are_the_pages() -> None:
    css = files("mmdistill.toolkit.report").joinpath("page.css").read_text("utf-8")
    assert f"--background: light-dark({LIGHT_BACKGROUND}, {DARK_BACKGROUND});" in css


def test_thirty_six_trackers_look_different_and_six_have_colors_of_their_own() -> None:
    styles = [(LineStyle(index).color, LineStyle(index).dash, LineStyle(index).marker) for index in range(36)]
    assert len(set(styles)) == 36
    for part in range(3):
        assert len({style[part] for style in styles[:6]}) == 6
    assert LineStyle(0).image_color == (0x8F, 0xC3, 0xF0)
    for style in styles[:6]:
        assert f".{style[0]}{{" in color_css()
