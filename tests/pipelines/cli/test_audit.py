"""`belfry data audit`: exit codes, JSON, and what is written."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli.app import run
from pipelines.data.dataset import Dataset

Make = Callable[..., Dataset]
DAY = 86_400


@pytest.fixture
def dataset(make_dataset: Make) -> Path:
    """Nine days of clicks; one item of fifty is not in the catalogue."""
    events = [
        {
            "user_id": f"u{user}",
            "item_id": f"i{(user + 5 * day) % 50}",
            "kind": "click",
            "at": 10**9 + day * DAY + user * 61,
        }
        for day in range(9)
        for user in range(40)
    ]
    items = [{"item_id": f"i{number}", "title": f"Title {number}"} for number in range(1, 50)]
    return make_dataset(events, items).folder


def test_warnings_pass_and_errors_do_not(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "audit", str(dataset)]) == 0
    printed = capsys.readouterr().out
    assert "warning  unknown_items" in printed
    assert "made passes: 0 errors, 1 warning in" in printed
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("audit: {unknown_items: {error: 0.015}}")
    out = tmp_path / "audit"
    assert run(["data", "audit", str(dataset), "--recipe", str(recipe), "--out", str(out), "--json"]) == 1
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert not result["passed"]
    assert [finding["check"] for finding in result["findings"]] == ["unknown_items"]
    assert json.loads((out / "audit.json").read_text()) == result
    assert "unknown_items" in (out / "audit.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nothing"], "is not a Belfry dataset"),
        (["{data}", "--since", "yesterday"], "--since takes a moment"),
        (["{data}", "--recipe", "{tmp}/none.yaml"], "does not exist"),
        (["{data}", "--out", "{tmp}"], "is not an earlier result"),
    ],
)
def test_bad_input_is_one_sentence(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    given = [each.format(tmp=tmp_path, data=dataset) for each in arguments]
    assert run(["data", "audit", *given]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert len(printed.err.splitlines()) == 1
