"""Pages: whatever is written into them comes out as text, and nothing is asked for outside."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.page import (
    Html,
    Line,
    badge,
    bars,
    cards,
    columns,
    element,
    figure,
    intervals,
    lines,
    page,
    points,
    section,
    table,
)

ANY = st.text()
NAMES = st.lists(ANY, min_size=1, max_size=6)
NUMBERS = st.floats(min_value=0, max_value=1e12)


class Read(HTMLParser):
    """What a browser would read: elements, attributes, and text by element."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.elements]


def read_back(text: str) -> str:
    """What is to come out of a text: HTML has no control characters and no lone surrogates."""
    return re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


@given(ANY, ANY)
def test_text_and_attributes_come_back_as_they_were(text: str, attribute: str) -> None:
    read = Read(element("p", text, title=attribute))
    assert read.names == ["p"]
    assert "".join(read.texts) == read_back(text)
    assert read.elements[0][1]["title"] == read_back(attribute)
    assert not read.open


@given(ANY, ANY, NAMES)
def test_a_page_of_any_text_has_the_elements_of_a_page_of_plain_text(title: str, text: str, names: list[str]) -> None:
    def made(title: str, text: str, names: list[str]) -> Html:
        rows = [[name, 1, 0.5, None] for name in names]
        numbers = [float(place) for place in range(len(names))]
        parts = [
            cards([(text, text)]),
            table([text, "b", "c", "d"], rows, caption="c" + text),
            figure(text, bars(text, names, {"one": numbers}), note="n" + text),
            figure(text, columns(text, names, {"one": numbers, "two": numbers})),
            figure(text, lines(text, names, [Line(text, numbers, numbers, numbers), Line("b", numbers)])),
            badge(text),
        ]
        return Html(page(title, text, [section(text, *parts)]))

    read, plain = Read(made(title, text, names)), Read(made("t", "x", ["n"] * len(names)))
    # How many axis labels there is room for depends on their length.
    assert [name for name in read.names if name != "text"] == [name for name in plain.names if name != "text"]
    assert not read.open


@given(st.lists(st.one_of(st.none(), NUMBERS), min_size=1, max_size=40), st.booleans())
def test_charts_stay_within_their_frame(values: list[float | None], diagonal: bool) -> None:
    labels = [str(place) for place in range(len(values))]
    known = [value or 0.0 for value in values]
    for chart in (
        lines("t", labels, [Line("a", values)], diagonal=False),
        columns("t", labels, {"a": known}),
        bars("t", labels, {"a": known, "b": known[::-1]}),
        intervals("t", labels, [(value - 1, value, value + 2) for value in known]),
    ):
        read = Read(chart)
        _, _, width, height = map(float, read.elements[0][1]["viewbox"].split())  # type: ignore[union-attr]
        for name, given_ in read.elements:
            if name == "rect":
                x, y, wide, high = (float(given_[key] or 0) for key in ("x", "y", "width", "height"))
                assert -0.1 <= x <= x + wide <= width + 0.1
                assert -0.1 <= y <= y + high <= height + 0.1
            if name in ("line", "circle"):
                keys = ("x1", "x2") if name == "line" else ("cx",)
                assert all(-0.1 <= float(given_[key] or 0) <= width + 0.1 for key in keys)
            if name == "polyline":
                for point in (given_["points"] or "").split():
                    x, y = map(float, point.split(","))
                    assert -0.1 <= x <= width + 0.1
                    assert -0.1 <= y <= height + 0.1


@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [1e-9], [3.0, None, 4.0]])
def test_a_chart_of_little_is_a_chart(values: list[float | None]) -> None:
    labels = [str(place) for place in range(len(values))]
    assert Read(lines("t", labels, [Line("a", values)])).names[0] == "svg"
    assert Read(columns("t", labels, {"a": [value or 0 for value in values]})).names[0] == "svg"


def test_a_chart_is_an_image_with_a_title_and_what_it_says() -> None:
    name, given_ = Read(bars("Events by language", ["en", "de"], {"events": [30, 10]})).elements[0]
    assert (name, given_["role"]) == ("svg", "img")
    assert given_["aria-label"] == "Events by language. en: events 30; de: events 10"


def test_columns_of_numbers_stand_to_the_right() -> None:
    read = Read(table(["item", "clicks", "rate"], [("a", 1200, "3.4 %"), ("b2", None, "12 %")]))
    assert [given_.get("class") for name, given_ in read.elements if name in ("th", "td")] == [
        None,
        "number",
        "number",
    ] * 3
    assert "1,200" in read.texts


def test_a_page_asks_for_nothing() -> None:
    document = page("t", "l", [section("s", figure("f", columns("c", ["a"], {"x": [1.0]})))])
    assert not re.search(r"https?:|url\(|@import|<script|<link|<img", document)
    assert "default-src 'none'" in document.replace("&#x27;", "'")
    assert "prefers-color-scheme: dark" in document


@given(
    st.lists(st.tuples(st.floats(min_value=1e-9, max_value=1e9), st.floats(-1e6, 1e6)), min_size=1, max_size=20),
    st.booleans(),
)
def test_every_point_is_drawn_inside_the_axes(pairs: list[tuple[float, float]], logarithmic: bool) -> None:
    chart = Read(points("by rate", *zip(*pairs, strict=True), logarithmic=logarithmic))
    drawn = [attributes for name, attributes in chart.elements if name == "circle"]
    assert len(drawn) == len(pairs)
    for each in drawn:
        assert 46 <= float(each["cx"] or "nan") <= 350
        assert 8 <= float(each["cy"] or "nan") <= 178.1


def test_small_differences_can_be_seen_where_the_axis_need_not_begin_at_0() -> None:
    def heights(**settings: bool) -> list[float]:
        chart = Read(lines("auc", ["1", "2"], [Line("auc", [0.61, 0.64])], **settings))
        return [float(found["cy"] or "nan") for name, found in chart.elements if name == "circle"]

    near, far = heights(), heights(from_zero=False)
    assert near[0] - near[1] < 20 < far[0] - far[1]
