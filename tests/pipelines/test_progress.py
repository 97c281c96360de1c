from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from pipelines import progress
from pipelines.progress import say, stages, track


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


def test_stages_are_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_LINE_EVERY_SECONDS", 0.0)
    with stages("export", {"saving": 1, "asking": 2}) as begin:
        begin("saving")
        begin("asking")
    assert capsys.readouterr().err.splitlines() == ["export: saving, 1 of 2", "export: asking, 2 of 2"]


PROGRAM = """
import time
from pipelines.progress import say, stages, track

with stages("export", {"saving": 1, "asking": 1}) as begin:
    begin("saving")
    for step in track(range(8), "encoding [texts]", 8):
        time.sleep(0.1)
        if step == 5:
            say("a line [of] 1,234")
    begin("asking")
    time.sleep(0.3)
say("done")
"""
# Select Graphic Rendition of a colour: 30 to 38, 40 to 48, 90 to 107, by themselves or among others.
COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")


def on_a_terminal(**environment: str) -> str:
    """What the program writes to a real terminal of 100 columns."""
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=other,
        stdout=other,
        stderr=other,
        env=kept | {"PYTHONPATH": str(Path(progress.__file__).parents[1])} | environment,
        start_new_session=True,
    )
    os.close(other)
    written = b""
    # A terminal whose programs are gone answers with an error.
    with contextlib.suppress(OSError):
        while found := os.read(main, 65536):
            written += found
    os.close(main)
    assert process.wait(60) == 0
    return written.decode()


def test_a_terminal_shows_a_bar_with_the_time_left_in_colour() -> None:
    written = on_a_terminal(TERM="xterm-256color")
    assert "encoding [texts]" in written
    assert "export: saving" in written
    assert "export: asking" in written
    assert re.search(r"\d:\d\d:\d\d\x1b?[^\n]{0,12}left", written)
    assert COLOUR.search(written)
    lines = [each.strip() for each in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written).splitlines()]
    assert "a line [of] 1,234" in lines  # by itself, above the bars
    assert lines[-1] == "done"


def test_no_color_takes_the_colours_and_leaves_the_bar() -> None:
    written = on_a_terminal(TERM="xterm-256color", NO_COLOR="1")
    assert re.search(r"\d:\d\d:\d\d", written)
    assert "encoding [texts]" in written
    assert not COLOUR.search(written)


def test_a_dumb_terminal_and_a_pipe_get_plain_lines() -> None:
    assert on_a_terminal(TERM="dumb").splitlines() == ["a line [of] 1,234", "done"]
    piped = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ | {"PYTHONPATH": str(Path(progress.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (piped.stdout, piped.stderr.splitlines()) == ("", ["a line [of] 1,234", "done"])
