"""Experiments through running gateways: who is served by what, and what is logged of it."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from serving.events import Store
from serving.events.items import put_items
from serving.events.keys import create_key
from serving.events.tables import EXPERIMENTS, SLATES
from serving.experiments.declaration import Experiment
from serving.model_server import ModelServer, Options

Run = Callable[..., Any]
USERS = [f"u{number}" for number in range(40)]
LABELS = {"champion": 1, "canary": 2}


def declared(name: str = "e", treatment: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    variants = {"old": {"share": 0.5}, "new": {"share": 0.5, "treatment": treatment or {"category_share": 0.25}}}
    return {"name": name, "variants": variants, "control": "old"} | more


def start(served: Any, **more: Any) -> Experiment:
    content = declared(**more)
    answer = served.http.post("/v1/experiments", json=content)
    assert answer.status_code == 201, answer.text
    return Experiment.read(content)


def config(folder: Path, labels: dict[str, int]) -> Path:
    lines = [
        "model_config_list {",
        "config {",
        'name: "feed"',
        f'base_path: "{folder}"',
        'model_platform: "tensorflow"',
    ]
    lines += [
        "model_version_policy { specific {",
        *(f"versions: {each}" for each in sorted(set(labels.values()))),
        "} }",
    ]
    lines += [f'version_labels {{ key: "{label}" value: {version} }}' for label, version in labels.items()]
    path = folder.parent / "models.config"
    path.write_text("\n".join([*lines, "} }"]), encoding="utf-8")
    return path


@pytest.fixture
def labelled(export_toy: Callable[[bool], Path], tmp_path: Path) -> Iterator[tuple[ModelServer, Path]]:
    """A server of two versions with labels, and the folder of the model."""
    base = tmp_path / "models" / "feed"
    for version in (1, 2):
        shutil.copytree(export_toy(True), base / str(version))
    options = Options(
        model_config_file=config(base, LABELS),
        model_config_poll_wait_seconds=0.1,
        poll_wait_seconds=0.1,
        allow_version_labels_for_unavailable_models=True,
    )
    with ModelServer(options) as server:
        yield server, base


def slates(where: Path | str) -> list[Any]:
    with Store(where) as store, store.reading() as connection:
        return list(connection.execute(sa.select(SLATES)))


def test_a_user_is_answered_alike_by_every_replica(run: Run, eventually: Callable[..., None]) -> None:
    first, second = run(category_share=1.0), run(category_share=1.0)
    experiment = start(first, ramp=0.5)
    eventually(lambda: second.server.gateway.assignments.running)
    expected = {user: experiment.split.variant(user) for user in USERS}
    assert set(expected.values()) == {None, "old", "new"}
    for user in USERS:
        found = [served.feed(user, k=8) for served in (first, second)]
        variant = "default" if expected[user] is None else f"e:{expected[user]}"
        assert [each["variant"] for each in found] == [variant, variant]
    changed = next(user for user in USERS if expected[user] == "new")
    first.click(changed, "i00")
    mixed = Counter(int(item[1:]) % 4 for item in first.ids(changed, k=8))
    assert max(mixed.values()) == 2, "a quarter of an answer for each category"
    grown = first.http.post("/v1/experiments/e/ramp", json={"ramp": 1.0}).json()["experiment"]
    whole = Experiment.read(grown).split
    assert all(whole.variant(user) == variant for user, variant in expected.items() if variant)
    first.http.post("/v1/experiments/e/stop", json={"why": "enough"})
    eventually(lambda: not second.server.gateway.assignments.running)
    assert {served.feed(user)["variant"] for served in (first, second) for user in USERS[:5]} == {"default"}


def test_variants_are_versions_by_label(
    run: Run, labelled: tuple[ModelServer, Path], eventually: Callable[..., None], where: Path | str
) -> None:
    server, base = labelled
    served = run(server, label="champion", category_share=1.0)
    experiment = start(served, treatment={"label": "canary"})
    by = {variant: next(u for u in USERS if experiment.split.variant(u) == variant) for variant in ("old", "new")}
    eventually(lambda: served.feed(by["new"])["model"]["version"] == 2)
    assert served.feed(by["old"])["model"]["version"] == 1
    # Each version embeds what is put for itself.
    served.http.put("/v1/items/new", json={"title": "y" * 200, "category": "sport", "language": "en"})
    for user in by.values():
        served.click(user, "i00")
        eventually(lambda user=user: served.ids(user, k=1) == ["new"])
    # A label that moves is followed, and a version that is gone is stood in for.
    config(base, {"champion": 2, "canary": 2})
    eventually(lambda: served.feed(by["old"])["model"]["version"] == 2)
    config(base, {"champion": 1})
    eventually(lambda: served.feed(by["new"])["fallback"] == "default")
    assert served.feed(by["new"])["model"]["version"] == 1
    assert served.feed(by["new"])["variant"] == "e:new"
    eventually(lambda: {each.variant for each in slates(where)} >= {"e:new", "e:old"})


def test_what_is_drawn_is_logged_with_its_propensity(
    run: Run, where: Path | str, eventually: Callable[..., None]
) -> None:
    served = run(category_share=1.0, explore=0.5, explore_pool=15)
    for number in range(300):
        assert len(set(served.ids(f"u{number % 3}", k=5))) == 5
    eventually(lambda: len(slates(where)) == 300)
    shown = [item for slate in slates(where) for item in json.loads(slate.items)]
    own, elsewhere, other = 1 - 0.5 * (15 + 5 - 2) / 75, 2 * 0.5 / 75, 0.5 / 75
    counts = Counter(round(each[3], 9) for each in shown)
    assert set(counts) == {round(each, 9) for each in (own, elsewhere, other)}
    assert counts[round(own, 9)] / len(shown) == pytest.approx(own, abs=0.03)
    # The mean of 1 / propensity over what was shown is the number of items that could have been.
    assert sum(1 / each[3] for each in shown) / len(shown) == pytest.approx(15, abs=4)


def test_two_feeds_in_one(run: Run, where: Path | str, eventually: Callable[..., None]) -> None:
    served = run(category_share=1.0)
    start(served, method="interleaving", treatment={"category_share": 0.25})
    served.click("u1", "i00")
    found = served.feed("u1", k=8)
    assert found["variant"] == "e:interleaved"
    eventually(lambda: slates(where))
    items = json.loads(slates(where)[-1].items)
    teams = [each[5] for each in items]
    assert teams[:2] == [-1, -1], "both variants begin alike"
    assert {0, 1} <= set(teams)
    assert [each[0] for each in items] == [each["item_id"] for each in found["items"]]


def test_an_experiment_by_the_api(run: Run) -> None:
    served = run(category_share=1.0)
    start(served)
    for user in USERS:
        feed = served.feed(user, k=5)
        served.click(user, feed["items"][0]["item_id"], request_id=feed["request_id"])
    listed = served.http.get("/v1/experiments").json()["experiments"]
    assert [(each["experiment"]["name"], each["state"]) for each in listed] == [("e", "running")]
    refused = [
        ("/v1/experiments", declared(), 409),
        ("/v1/experiments", declared("other"), 409),
        ("/v1/experiments", {"name": "x"}, 422),
        ("/v1/experiments/e/ramp", {"ramp": 0.5}, 409),
        ("/v1/experiments/none/stop", {"why": "x"}, 404),
        ("/v1/experiments/e/stop", {}, 422),
    ]
    for path, body, status in refused:
        assert served.http.post(path, json=body).status_code == status, path
    # Slates are written a moment after the answer.
    served.server.gateway._slates.flush().result(10)
    seen = served.http.post("/v1/experiments/e/look").json()
    assert sum(seen["users"].values()) == len(USERS)
    assert seen["verdict"] == "running"
    shown = served.http.get("/v1/experiments/e").json()
    assert [each["users"] for each in shown["looks"]] == [seen["users"]]
    ended = served.http.post("/v1/experiments/e/stop", json={"why": "enough"}).json()
    assert (ended["state"], ended["why"]) == ("stopped", "enough")


def test_an_experiment_of_a_newer_gateway_keeps_nobody_from_the_catalogue(
    run: Run, where: Path | str, eventually: Callable[..., None]
) -> None:
    served = run()
    with Store(where) as store:
        newer = json.dumps(declared() | {"unheard_of": True})
        row = {"name": "e", "declaration": newer, "state": "running", "started_at": 1}
        with store.writing() as connection:
            connection.execute(EXPERIMENTS.insert(), row)
            store.count(connection, "experiments")
        before = served.http.get("/readyz").json()["items"]
        put_items(store, [{"item_id": "later", "title": "t", "language": "en", "category": "sport"}], 1)
        eventually(lambda: served.http.get("/readyz").json()["items"] == before + 1)
    assert served.feed("u1")["variant"] == "default"
    run()


def test_experiments_need_their_scope(run: Run, where: Path | str, eventually: Callable[..., None]) -> None:
    served = run()
    with Store(where) as store:
        _, key = create_key(store, "app", ["recommend", "events"])
    eventually(lambda: served.http.get("/v1/experiments").status_code == 401)
    headers = {"Authorization": f"Bearer {key}"}
    for method, path in (("GET", "/v1/experiments"), ("POST", "/v1/experiments"), ("POST", "/v1/experiments/e/stop")):
        assert served.http.request(method, path, headers=headers).status_code == 403
