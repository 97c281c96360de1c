"""A few days of the whole loop: gateway, model server, monitor, retraining, experiments, and the page of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipelines.cli.app import run as belfry
from pipelines.recipe import Recipe
from pipelines.registry import Registry
from pipelines.simulation.results import ARMS
from pipelines.simulation.simulate import MODEL, Plan, simulate
from recipes import shipped
from serving.events import Store
from serving.events.tables import SLATES
from serving.experiments.records import read_experiment
from serving.monitoring import Rule, Rules
from tests.quick_exports import quick_exports

DAYS = 2


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("simulation") / "out"
    recipe = Recipe.load(shipped("simulate"))
    # Of which little passes the gate: what a retraining makes would be on trial when the bad version is to be.
    quick = recipe.model_copy(
        update={
            "training": recipe.training.model_copy(update={"epochs": 2}),
            "retraining": recipe.retraining.model_copy(update={"tolerance": 0.0, "refit": False}),
        }
    )
    rules = Rules(rules=(Rule(name="age", metric="model_age_hours", above=12, cool_down_hours=1, action="retrain"),))
    plan = Plan(days=DAYS, warm_up=5, size="tiny", spoilt_on=1, explore=0.5)
    with quick_exports():
        return out, simulate(out, quick, plan, rules)


def test_every_visit_was_answered_and_logged(played: tuple[Path, dict[str, Any]]) -> None:
    out, result = played
    assert result["visits"] == pytest.approx(DAYS * 150, rel=0.3)
    assert result["fallbacks"] == 0
    with Store(out / "store") as store, store.reading() as connection:
        slates = connection.execute(sa.select(SLATES)).all()
    assert len(slates) == result["visits"]
    assert {ARMS["loop"], ARMS["frozen"]} <= {each.variant for each in slates}
    frozen = {each.version for each in slates if each.variant == ARMS["frozen"] and not each.fallback}
    assert frozen == {1}
    assert any(propensity < 1 for each in slates for _, _, _, propensity, _ in json.loads(each.items))
    for name in ("loop", "frozen"):
        # What was clicked is what should have been, up to chance.
        assert result["ctr"][name] == pytest.approx(result["true_ctr"][name], rel=0.5)


def test_the_nights_were_worked_through(played: tuple[Path, dict[str, Any]]) -> None:
    out, result = played
    first, second = result["nights"]
    assert first["seen"]["slates"][0] > 0
    assert [each["rule"] for each in first["fired"]] == ["age"]
    assert first["retrained"] is not None
    assert result["retrained"] >= 1
    spoilt, tried = result["spoilt"], [each["name"] for each in second["experiments"]]
    if first["started"] is None:
        assert f"version-{spoilt['version']}" in tried
        assert spoilt["largest_share_of_a_day"] < 0.4
    else:
        # There is one trial at a time.
        assert spoilt is None
        assert first["started"] in tried
    assert Registry(out / "models").model(MODEL).pins == {"frozen": 1}
    with Store(out / "store") as store:
        assert read_experiment(store, "holdout").is_running


def test_the_page_is_complete_in_itself(played: tuple[Path, dict[str, Any]]) -> None:
    out, result = played
    page = (out / "simulation.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "<script" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert json.loads((out / "simulation.json").read_text())["lead"] == result["lead"]


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    assert belfry(["simulate", "--out", str(tmp_path / "there")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert belfry(["simulate", "--out", str(tmp_path / "new"), "--size", "huge"]) == 2
    assert "huge" in capsys.readouterr().err
    assert belfry(["simulate", "--out", str(tmp_path / "new"), "--days", "2", "--spoilt-on", "2"]) == 2
    assert "days are from 0 to 1" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
