"""Whatever the API's own document allows, and what it does not: no 5xx, and every answer as it is described."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)


def wrong_data_is_refused(context: Any, response: Any, case: Any) -> bool | None:
    """A body over the limit is refused too, which the library does not count."""
    return None if response.status_code == 413 else negative_data_rejection(context, response, case)


CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    wrong_data_is_refused,
]


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_api_keeps_to_its_document(run: Callable[..., Any], mode: GenerationMode) -> None:
    served = run()
    schema = schemathesis.openapi.from_url(f"{served.server.url}/openapi.json")
    tried = 0
    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=25,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(checks=CHECKS, timeout=20)

        if mode is GenerationMode.POSITIVE or operation.body or operation.query or operation.path_parameters:
            ask()
    assert tried > 100
    assert served.feed("u1")["fallback"] is None
