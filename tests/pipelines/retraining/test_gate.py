"""What the gate lets pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.build import build_model
from pipelines.data.splits import Part, Parts
from pipelines.errors import BadInput
from pipelines.model_ranker import ModelRanker
from pipelines.prepare import Prepared, prepare
from pipelines.rankers import Queries
from pipelines.recipe import Recipe
from pipelines.retraining.gate import gate, holm
from pipelines.run import Run


@pytest.fixture(scope="session", params=["impressions", "interactions"])
def judged(request: pytest.FixtureRequest, run_folder: Any) -> tuple[Recipe, Prepared, ModelRanker, ModelRanker]:
    """A trained model and a destroyed one, on the second half of the small dataset."""
    run = Run.open(run_folder)
    values = {"data.split.test": 0.5, "data.examples": request.param, "retraining.slice_users": 10}
    recipe = run.recipe.changed(values)
    data = prepare(run.training_data(), recipe, known=run.vocabulary)
    destroyed = build_model(recipe, run.vocabulary, data.catalogue)
    rng = np.random.default_rng(1)
    destroyed.set_weights([rng.normal(size=each.shape) for each in destroyed.get_weights()])
    return recipe, data, ModelRanker(run.model(data.catalogue), data.window), ModelRanker(destroyed, data.window)


def test_what_is_better_passes_and_what_is_destroyed_does_not(judged: Any) -> None:
    recipe, data, trained, destroyed = judged
    verdict = gate(recipe, data, trained, destroyed)
    assert verdict.accepted
    assert verdict.lead.low > 0
    assert verdict.candidate == pytest.approx(verdict.champion + verdict.lead.mean)
    assert {"known users", "language de", "device mobile"} <= {each.name for each in verdict.slices}
    refused = gate(recipe, data, destroyed, trained)
    assert not refused.accepted
    assert refused.lead.high < 0
    assert "it is no better" in refused.why


def test_the_champion_does_not_beat_itself(judged: Any) -> None:
    recipe, data, trained, _ = judged
    verdict = gate(recipe, data, trained, trained)
    assert not verdict.accepted
    assert verdict.lead.mean == verdict.lead.low == verdict.lead.high == 0
    assert not any(each.falls for each in verdict.slices)


class Spoiled:
    """As another ranker, but the other way round for some queries."""

    name = "spoiled"

    def __init__(self, ranker: ModelRanker, device: str) -> None:
        self.ranker, self.device = ranker, device

    def _sign(self, queries: Queries) -> np.ndarray:
        assert queries.device is not None
        return np.where(queries.device == self.device, -1.0, 1.0)

    def pairs(self, queries: Queries, row: np.ndarray, item: np.ndarray) -> np.ndarray:
        return self.ranker.pairs(queries, row, item) * self._sign(queries)[row]

    def catalogue(self, queries: Queries, allowed: np.ndarray) -> np.ndarray:
        scores = self.ranker.catalogue(queries, allowed)
        return np.where(allowed, scores * self._sign(queries)[:, None], scores)


def test_a_slice_that_falls_holds_the_whole_back(judged: Any) -> None:
    recipe, data, trained, destroyed = judged
    verdict = gate(recipe, data, Spoiled(trained, "tablet"), trained)
    fallen = [each for each in verdict.slices if each.falls]
    assert "device tablet" in {each.name for each in fallen}
    assert all(each.mean < 0 and each.p is not None and each.p < 0.05 for each in fallen)
    lenient = recipe.changed({"retraining.slice_users": 10_000})
    assert not [each for each in gate(lenient, data, Spoiled(trained, "tablet"), trained).slices if each.falls]
    assert all(each.p is None for each in gate(lenient, data, trained, destroyed).slices)


def test_the_tolerance_is_what_the_interval_may_reach(judged: Any) -> None:
    recipe, data, trained, _ = judged
    lenient = recipe.changed({"retraining.slice_users": 10_000, "retraining.tolerance": 1.0})
    mixed = Spoiled(trained, "mobile")
    lead = gate(lenient, data, trained, mixed).lead
    assert 0 < lead.mean < lead.high
    worse = gate(lenient, data, mixed, trained)
    assert (worse.accepted, worse.lead.mean) == (False, pytest.approx(-lead.mean))
    for tolerance in (0.0, 0.5):
        verdict = gate(lenient.changed({"retraining.tolerance": tolerance}), data, trained, mixed)
        assert verdict.accepted == (lead.low >= -tolerance)


def test_nothing_to_judge_on_is_said(judged: Any) -> None:
    recipe, data, trained, _ = judged
    parts = Parts(*(np.full_like(each, int(Part.TRAIN)) for each in (data.parts.interactions, data.parts.requests)))
    with pytest.raises(BadInput, match="nothing to judge on"):
        gate(recipe, replace(data, parts=parts), trained, trained)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_step_down_method(p: Sequence[float]) -> None:
    found = holm(list(p))
    order = np.argsort(p, kind="stable")
    highest = 0.0
    for step, place in enumerate(order):
        highest = max(highest, min(1.0, p[place] * (len(p) - step)))
        assert found[place] == pytest.approx(highest)
