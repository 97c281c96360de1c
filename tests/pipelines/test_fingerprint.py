"""A version's fingerprint: made as traffic is, and of what the version answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.data.dataset import Dataset
from pipelines.data.sources.store import import_store
from pipelines.fingerprint import _Moments, training_fingerprint
from pipelines.prepare import prepare, prepare_for
from pipelines.recipe import Recipe
from pipelines.run import Run
from pipelines.served import model_server
from pipelines.trained import first_stage
from serving.events import Store
from serving.monitoring import Embedder, Fingerprint, observe
from serving.monitoring.features import features_of
from serving.monitoring.fingerprint import IN_VERSION
from serving.monitoring.samples import sample
from serving.monitoring.window import read_window
from tests.serving.monitoring.conftest import DAY, START, Traffic, a_day, put_catalogue, the_past


@pytest.fixture
def traffic_store(tmp_path: Path) -> Path:
    """Users with a past who come once on the last day and want one item then: chance has nothing to choose."""
    where = tmp_path / "store"
    with Store(where) as store:
        put_catalogue(store)
        the_past().write(store)
        day, once = a_day(0), Traffic()
        seen: set[str] = set()
        for slate in day.slates:
            if slate["user_id"] not in seen:
                seen.add(slate["user_id"])
                slate["device"] = None if slate["user_id"] == "u003" else slate["device"]
                once.slates.append(slate)
        requests = {slate["request_id"]: slate["user_id"] for slate in once.slates}
        for event in day.events:
            if requests.pop(event["request_id"], None):
                once.events.append(event)
        once.write(store)
    return where


def test_training_and_traffic_are_described_alike(traffic_store: Path, tmp_path: Path) -> None:
    import_store(traffic_store, tmp_path / "data")
    recipe = Recipe.model_validate({"data": {"positive_rating": None}, "features": {"history": 8}})
    data = prepare(Dataset.open(tmp_path / "data"), recipe)
    start = START // 10**6
    with Store(traffic_store) as store:
        window = read_window(store, START, START + DAY)
        sampled = sample(store, window, history=8)
    live = sampled.features()
    moments = _Moments(data, on_requests=True)
    rows = moments.one_each(start, start + 86_400, np.random.default_rng(0))
    samples, wanted = moments.samples(rows), moments.wanted(start, start + 86_400, np.random.default_rng(0))
    trained = features_of(samples, wanted, age_hours=moments.ages(rows))
    assert len(samples) == len(sampled.samples) == 150
    assert trained.keys() == live.keys() - {"score_top", "score_gap"}
    users = (window.user_ids[sampled.samples.user], data.behaviour.interactions.user_ids[samples.user])
    wanting = (window.user_ids[sampled.wanted.user], data.behaviour.interactions.user_ids[wanted.user])
    # A store has no table of users: which language they speak is in their requests alone.
    assert set(trained["language"].values) == {""}
    for name in trained.keys() - {"language"}:
        of = wanting if name in ("wanted_category", "dwell_seconds", "scroll_depth") else users
        if name == "history_category":
            of = tuple(
                each[np.diff(part.offsets) > 0] for each, part in zip(users, (sampled.samples, samples), strict=True)
            )
        found, expected = (
            dict(zip(ids, feature.values, strict=True))
            for ids, feature in zip(of, (live[name], trained[name]), strict=True)
        )
        assert found.keys() == expected.keys()
        for user, value in expected.items():
            if isinstance(value, str):
                assert found[user] == value, (name, user)
            else:
                # Training has whole seconds, and dwell in single precision.
                assert found[user] == pytest.approx(value, rel=1e-5, abs=1 / 3_600, nan_ok=True), (name, user)
    for one, other in zip(live["wanted_category"].weights, live["wanted_category"].values, strict=True):  # type: ignore[arg-type]
        place = list(trained["wanted_category"].values).index(other)
        assert one == pytest.approx(trained["wanted_category"].weights[place])  # type: ignore[index]


def test_a_version_holds_its_own(model_folder: Path, run_folder: Path) -> None:
    found = Fingerprint.load(model_folder / "1" / IN_VERSION)
    run = Run.open(run_folder)
    assert (found.model, found.version, found.hours) == (model_folder.name, 1, 24)
    assert found.history == run.recipe.features.history
    assert str(run.training_data().info.last_at.timestamp()).split(".")[0] == str(found.until)[:10]  # type: ignore[union-attr]
    assert {"score_top", "history_length"} <= found.numbers.keys()
    assert {"device", "hour", "language"} <= found.categories.keys()
    # The publisher chose what was shown there.
    assert "wanted_category" not in found.categories
    assert "item_age_hours" not in found.numbers


def test_its_vectors_and_scores_are_what_the_version_answers(
    model_folder: Path, run_folder: Path, tmp_path: Path
) -> None:
    run = Run.open(run_folder)
    dataset = run.training_data()
    data = prepare_for(run, dataset)
    first = first_stage(run, data)
    offer = np.ones(len(data.catalogue), bool)
    made = training_fingerprint(run, dataset, data, first, None, offer, model="feed", version=1)
    assert made is not None
    assert made.vectors["embedding"].rows == made.numbers["score_top"].rows > 0
    moments = _Moments(data, on_requests=bool(len(data.behaviour.requests)))
    rows = np.arange(len(moments.user))[-40:]
    samples = moments.samples(rows)
    batch = data.window.batch(moments.user[rows], moments.history_end[rows], moments.at[rows], moments.device[rows])
    expected = first.model.embed_users(batch).numpy()
    with model_server(model_folder, tmp_path / "log") as served:
        with Embedder(f"grpc://127.0.0.1:{served.grpc_port}", served.model, batch=16) as embed:
            np.testing.assert_allclose(embed(samples, 1), expected, atol=1e-4)


def test_a_dataset_of_a_gateway_says_what_its_users_were_shown(
    traffic_store: Path, tmp_path: Path, run_folder: Path
) -> None:
    import_store(traffic_store, tmp_path / "data")
    run, dataset = Run.open(run_folder), Dataset.open(tmp_path / "data")
    data = prepare_for(run, dataset)
    first = first_stage(run, data)
    made = training_fingerprint(run, dataset, data, first, None, np.ones(40, bool), model="feed", version=3)
    assert made is not None
    assert "wanted_category" in made.categories
    assert "item_age_hours" in made.numbers
    with Store(traffic_store) as store:
        seen = observe(
            store, START, START + DAY, fingerprint=made.model_copy(update={"version": 1}), history=made.history
        )
    compared = {each.feature: each for each in seen.findings["training"]}
    # The last day is among the training's; language is known of one side alone.
    assert not [each for each in seen.drifted if each.feature in ("device", "hour", "dwell_seconds")]
    assert {"device", "history_length", "wanted_category"} <= compared.keys()
    assert any("language is unknown throughout the training data" in each for each in seen.skipped)
