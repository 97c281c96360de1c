"""Which requests the loop answers itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from hypothesis import given
from hypothesis import strategies as st

from serving.model_server import ModelServer, Options
from serving.model_server.pace import LATE_SECONDS, QUICK_SECONDS, Pace


def paced(*seconds: float, well: bool = True) -> Pace:
    pace = Pace()
    for each in seconds:
        pace.took(each, well=well)
    return pace


def test_nothing_is_known_at_first_and_quick_requests_make_it_quick() -> None:
    assert not Pace().quick
    assert paced(QUICK_SECONDS / 2).quick
    assert not paced(QUICK_SECONDS * 2).quick
    assert paced(0.1, *[QUICK_SECONDS / 2] * 200).quick


@given(st.lists(st.floats(0, QUICK_SECONDS), min_size=1, max_size=50), st.floats(LATE_SECONDS, 1e4), st.booleans())
def test_after_a_late_request_those_that_follow_are_not_quick(before: list[float], late: float, well: bool) -> None:
    pace = paced(*before)
    assert pace.quick
    pace.took(late, well=well)
    for _ in range(999):
        pace.took(QUICK_SECONDS / 10, well=True)
        assert not pace.quick


def test_what_is_refused_early_says_nothing() -> None:
    assert not paced(*[1e-5] * 100, well=False).quick
    pace = paced(2 * QUICK_SECONDS)
    for _ in range(1000):
        pace.took(1e-5, well=False)
    assert not pace.quick


def test_a_model_that_turns_slow_in_the_loop_goes_to_threads(tmp_path: Path, publish: Callable[..., Any]) -> None:
    publish(tmp_path, 1, "numeric1")
    options = Options(model_base_path=tmp_path, grpc_port=None, rest_timeout_ms=50)
    with ModelServer(options) as server, httpx.Client(base_url=server.rest_url or "", timeout=20) as http:
        assert server.registry is not None
        with server.registry.lease("default") as (_, model):
            pace = model.signatures["slow"].pace

        def ask(rounds: int) -> int:
            body = {"signature_name": "slow", "inputs": rounds}
            return http.post("/v1/models/default:predict", json=body).status_code

        while not pace.quick:
            ask(0)
        assert ask(3000) == 200  # late, and in the loop: there is no 504
        assert not pace.quick
        assert ask(3000) == 504
