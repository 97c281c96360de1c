"""Stopping what goes on until it is stopped."""

from __future__ import annotations

import os
import signal

import pytest

from pipelines.stopping import stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_even_where_the_shell_ignored_it(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            os.kill(os.getpid(), number)
            assert stop.wait(10)
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)
