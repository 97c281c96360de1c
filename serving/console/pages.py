"""Every page and file of the console, by path, ready to be sent."""

from __future__ import annotations

import html
from importlib.resources import files
from string import Template
from typing import NamedTuple

# No script and no style but ours, no frame around us, nothing sent elsewhere. Pictures come with the reader's key, so
# that the script makes them of bytes: blob.
_POLICY = (
    "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


class Content(NamedTuple):
    """A file's bytes and media type."""

    body: bytes
    media_type: str


class _Page(NamedTuple):
    path: str
    name: str
    title: str


_PAGES = (
    _Page("/", "feed", "Feed"),
    _Page("/console/compare", "compare", "Compare"),
    _Page("/console/articles", "articles", "Articles"),
    _Page("/console/live", "live", "Live"),
    _Page("/console/experiments", "experiments", "Experiments"),
    _Page("/console/models", "models", "Models"),
)


def contents() -> dict[str, Content]:
    """All of the console by path."""
    package = files("serving.console")
    layout = Template(package.joinpath("layout.html").read_text(encoding="utf-8"))
    found = {}
    for page in _PAGES:
        main = package.joinpath("mains", f"{page.name}.html").read_text(encoding="utf-8")
        text = layout.substitute(title=html.escape(page.title), links=_links(page), name=page.name, main=main)
        found[page.path] = Content(text.encode(), "text/html; charset=utf-8")
    for file in sorted(package.joinpath("static").iterdir(), key=lambda each: each.name):
        kind = _TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[f"/console/static/{file.name}"] = Content(file.read_bytes(), kind)
    return found


def _links(current: _Page) -> str:
    lines = []
    for page in _PAGES:
        here = ' aria-current="page"' if page is current else ""
        lines.append(f'<li><a href="{page.path}"{here}>{html.escape(page.title)}</a></li>')
    return "\n        ".join(lines)
