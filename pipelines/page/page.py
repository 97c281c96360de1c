"""The frame of a report: title, sections, cards, tables, figures. Dark and light, phone and desk, print."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pipelines.page.markup import Html, element, join
from pipelines.page.style import STYLE

_NUMBER = re.compile(r"<?-?[0-9][0-9,.]*(e[-+]?[0-9]+)?( %)?")


def page(title: str, lead: object, sections: Iterable[Html]) -> str:
    """A whole HTML document.

    Args:
        title: Of the tab and above the page.
        lead: What stands below the title.
        sections: From `section`; their titles become the contents.
    """
    sections = list(sections)
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            # Nothing is fetched, and nothing runs.
            element(
                "meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"
            ),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("style", Html(STYLE)),
        ]
    )
    body = element("main", element("header", element("h1", title), element("p", lead, class_="lead")), *sections)
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def section(title: str, *content: object) -> Html:
    """A part of the page under a heading."""
    return element("section", element("h2", title), *content)


def cards(figures: Sequence[tuple[str, object]]) -> Html:
    """Large numbers, each with what it is."""
    return element(
        "dl",
        *(element("div", element("dt", name), element("dd", value)) for name, value in figures),
        class_="cards",
    )


def badge(text: str, tone: str = "plain") -> Html:
    """A word in a coloured frame. `tone` is good, warning, error or plain."""
    return element("span", text, class_=f"badge {tone}")


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, caption: str = "", wide: bool = False) -> Html:
    """A table that scrolls by itself where it is wider than the screen.

    Args:
        headers: Of the columns; each is a word, or who cannot see the table does not know what its cells are.
        rows: Cells, as many as headers; columns of numbers are set to the right, None is a dash.
        caption: What the table shows.
        wide: Whether its cells stay on one line.
    """
    cells = [list(row) for row in rows]
    right = [all(map(_is_number, column)) for column in zip(*cells, strict=True)] or [False] * len(headers)
    names = (
        element("th", name, scope="col", class_="number" if to_right else None)
        for name, to_right in zip(headers, right, strict=True)
    )
    head = element("thead", element("tr", *names))
    body = element("tbody", *(element("tr", *map(_cell, row, right)) for row in cells))
    above = element("caption", caption) if caption else Html("")
    return element(
        "div",
        element("table", above, head, body),
        class_="table wide" if wide else "table",
        tabindex="0",
        role="group",
        aria_label=caption or ", ".join(headers),
    )


def figure(title: str, chart: Html, numbers: Html | None = None, note: str = "") -> Html:
    """A chart under its title, with the same numbers as a table that can be opened."""
    parts: list[object] = [element("figcaption", title), chart]
    if note:
        parts.append(element("p", note, class_="note"))
    if numbers is not None:
        parts.append(element("details", element("summary", "Numbers"), numbers))
    return element("figure", *parts)


def folded(title: str, text: str) -> Html:
    """A text as it is in its file, behind its title until it is opened."""
    whole = element("pre", text, tabindex="0", role="group", aria_label=title)
    return element("details", element("summary", title), whole)


def _is_number(value: object) -> bool:
    """Whether a cell belongs to the right: a number, a share, or nothing."""
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return True
    return isinstance(value, str) and bool(_NUMBER.fullmatch(value))


def _cell(value: object, to_right: bool) -> Html:
    if value is None:
        value = "–"
    elif isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
    return element("td", value, class_="number" if to_right else None)
