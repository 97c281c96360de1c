from __future__ import annotations

import io
import sys

import pytest

from pipelines import progress
from pipelines.progress import say, track


def test_everything_goes_to_standard_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.0)
    say("hello")
    assert list(track(["a", "b", "c"], "reading", 3)) == ["a", "b", "c"]
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "hello",
        "reading: 1 of 3, about 0 s left",
        "reading: 2 of 3, about 0 s left",
    ]


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track(range(100), "counting", 100)) == list(range(100))
    assert capsys.readouterr().err == ""


def test_nothing_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "nothing", 0)) == []
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(track(range(5), "encoding texts", 5)) == list(range(5))
    assert "encoding texts" in terminal.getvalue()
