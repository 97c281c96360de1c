"""What the pages are made of: all of it is ours, and none of it is inline."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.console import HEADERS, contents
from serving.events import Store
from serving.events.keys import create_key

PAGES = {path: each.body.decode() for path, each in contents().items() if "html" in each.media_type}
FILES = {path: each for path, each in contents().items() if path not in PAGES}


def test_no_page_has_what_the_policy_forbids() -> None:
    assert len(PAGES) == 6
    for path, text in PAGES.items():
        assert not re.search(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=|javascript:", text), path
        assert "$" not in text, path
        assert text.count('aria-current="page"') == 1, path
        assert text.count("<h1>") == 1, path
        ids = re.findall(r'\bid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), path
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_whatever_a_page_names_is_there() -> None:
    known = PAGES.keys() | FILES.keys()
    for path, text in PAGES.items():
        named = set(re.findall(r'(?:href|src)="([^"#]+)"', text))
        assert named <= known, path
    for path, each in FILES.items():
        text = each.body.decode()
        assert set(re.findall(r'from "([^"]+)"', text)) <= known, path
        addresses = set(re.findall(r"https?://[^\s\"'`]+", text))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path  # a name, which nobody loads
        assert "innerHTML" not in text
        assert "eval(" not in text


@pytest.mark.parametrize("keyed", [False, True])
def test_pages_need_no_key_and_say_nothing(room: Any, wait_for: Callable[..., None], keyed: bool) -> None:
    if keyed:
        with Store(room.where) as store:
            create_key(store, "any", ["recommend"])
        wait_for(lambda: room.http.get("/v1/items").status_code == 401)
    for path, each in contents().items():
        answer = room.http.get(path)
        assert (answer.status_code, answer.content) == (200, each.body), path
        assert answer.headers["content-type"] == each.media_type
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert room.http.post(path, json={}).status_code == (401 if keyed else 405)
        assert room.http.request("GET", path, content=b"x" * 2_000).status_code == 413
    assert room.http.get("/console/nothing").status_code == 404
    assert room.http.get("/console/static/../layout.html").status_code in (401, 404)


def test_every_file_of_the_package_is_sent() -> None:
    folder = Path(__file__).parents[3] / "serving" / "console" / "static"
    assert {f"/console/static/{each.name}" for each in folder.iterdir()} == FILES.keys()
