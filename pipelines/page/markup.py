"""HTML that cannot be broken by what is written into it: every text is escaped, once, here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable

# What HTML cannot hold, not even escaped: control characters and lone surrogates.
_NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_VOID = {"meta", "br", "hr", "col"}
_SELF_CLOSED = {"rect", "line", "path", "circle", "polyline", "polygon"}


class Html(str):
    """Markup that is ready. Anything else that is put into an element is text."""

    __slots__ = ()


def escape(text: object) -> Html:
    """Any value as text; what is `Html` already stays as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(_NO_TEXT.sub("\ufffd", str(text)), quote=True))


def element(name: str, /, *content: object, **attributes: object) -> Html:
    """An element with escaped content and attributes.

    Args:
        name: Of the element: a word of ours, never of the data.
        content: `Html`, or anything else as text.
        attributes: By name; `class_` is `class`, and `_` is `-`. None leaves one out.
    """
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    if name in _SELF_CLOSED and not content:
        return Html(f"<{name}{given}/>")
    return Html(f"<{name}{given}>{join(content)}</{name}>")


def join(parts: Iterable[object]) -> Html:
    """Parts end to end."""
    return Html("".join(map(escape, parts)))
