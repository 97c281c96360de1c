"""What the API tells those who look: items and pictures, users, previews, readers, live figures; on both stores."""

from __future__ import annotations

import base64
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipelines.registry import Registry
from pipelines.version_book import RegistryBook
from serving.events import Store
from serving.events.keys import SCOPES, create_key
from serving.events.tables import ITEMS, SLATES
from serving.gateway.pictures import MOST_BYTES
from serving.model_server import ModelServer, Options
from serving.monitoring.measures import Measure
from serving.monitoring.minutes import read_minutes
from serving.monitoring.records import write_measures

Run = Callable[..., Any]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 20
JPEG = b"\xff\xd8\xff" + b"\0" * 20


def text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def get(served: Any, path: str, **query: Any) -> Any:
    answer = served.http.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(served: Any, item_id: str, **item: Any) -> None:
    answer = served.http.put(f"/v1/items/{item_id}", json=item)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(("content", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg")], ids=["png", "jpeg"])
def test_a_picture_comes_back_as_it_was_put(run: Run, content: bytes, kind: str) -> None:
    served = run()
    put(served, "a/b", title="A title", image=text(content))
    answer = served.http.get("/v1/items/a%2Fb/image")
    assert (answer.content, answer.headers["content-type"]) == (content, kind)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert get(served, "/v1/items/a%2Fb")["has_image"] is True
    put(served, "a/b", title="A title")  # replaces all that is known
    assert served.http.get("/v1/items/a%2Fb/image").status_code == 404


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("%%%", "base64"),
        (text(b"GIF89a"), "JPEG or PNG"),
        (text(b"RIFF\0\0\0\0WEBP"), "JPEG or PNG"),
        (text(b"\x89PNG\r\n\x1a\n" + b"\0" * MOST_BYTES), "bytes"),
        ("", "JPEG or PNG"),
        (3, "base64"),
    ],
    ids=["letters", "gif", "webp", "large", "empty", "number"],
)
@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_what_is_no_picture_is_refused(run: Run, image: Any, told: str) -> None:
    answer = run().http.put("/v1/items/a", json={"title": "x", "image": image})
    assert answer.status_code == 422
    assert "image" in answer.json()["error"]
    assert told in answer.json()["error"]


def test_what_an_import_stored_is_a_picture_or_nothing(run: Run, where: Path | str) -> None:
    served = run()
    with Store(where) as store, store.writing() as connection:
        connection.execute(ITEMS.update().where(ITEMS.c.item_id == "i00").values(image=b"<svg onload=alert(1)>"))
    assert served.http.get("/v1/items/i00/image").status_code == 404


def test_items_are_found_by_id_and_by_what_they_say(run: Run) -> None:
    served = run()
    put(served, "new", title="The 100% Lighthouse", category="sport", tags=["sea", "night"])
    found = get(served, "/v1/items", item_id=["i03", "new", "nothing", "i01", "i03"])["items"]
    assert [each["item_id"] for each in found] == ["i03", "new", "i01"]
    assert found[1]["tags"] == ["sea", "night"]
    assert [each["item_id"] for each in get(served, "/v1/items", text="lighthouse")["items"]] == ["new"]
    assert [each["item_id"] for each in get(served, "/v1/items", text="0%")["items"]] == ["new"]
    assert get(served, "/v1/items", text="0_")["items"] == []
    assert [each["item_id"] for each in get(served, "/v1/items", text="I0", limit=3)["items"]] == ["i00", "i01", "i02"]
    assert get(served, "/v1/items", limit=1)["items"][0]["item_id"] == "new"
    served.http.delete("/v1/items/new")
    assert get(served, "/v1/items/new")["on_offer"] is False
    assert served.http.get("/v1/items/nothing").status_code == 404


def test_users_are_those_who_wanted_something(run: Run) -> None:
    served = run()
    now = time.time()
    for place, user in enumerate(("ann", "bob", "Ann")):
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 100 + place))
        served.click(user, "i00", "i04", at=at)
    served.click("shown", "i00", kind="impression")
    assert [each["user_id"] for each in get(served, "/v1/users")["users"]] == ["Ann", "bob", "ann"]
    assert get(served, "/v1/users", limit=1)["users"][0]["events"] == 2
    assert [each["user_id"] for each in get(served, "/v1/users", prefix="a")["users"]] == ["ann"]
    served.http.delete("/v1/users/ann")
    assert get(served, "/v1/users", prefix="a")["users"] == []


def test_a_history_is_what_the_model_is_told(run: Run) -> None:
    served = run()
    served.click("u1", "i00", at="2026-01-01T00:00:00Z", dwell_seconds=3.5, device="phone")
    served.click("u1", "gone", at="2026-01-02T00:00:00Z")
    found = get(served, "/v1/users/u1")
    assert (found["device"], found["variant"]) == ("phone", "default")
    assert [each["item_id"] for each in found["history"]] == ["gone", "i00"]
    assert found["history"][0]["item"] is None
    assert found["history"][1]["item"]["category"] == "sport"
    assert found["history"][1]["dwell_seconds"] == 3.5
    assert found["history"][1]["at"] == 1767225600_000000
    assert get(served, "/v1/users/nobody%2Fhere")["history"] == []


def test_a_preview_is_the_feed_that_would_be_and_is_not_logged(run: Run, where: Path | str) -> None:
    served = run(answer_seconds=0)
    served.click("u1", "i00", "i04")
    variants = {"all": {}, "mixed": {"category_share": 0.2}, "chance": {"explore": 1.0}}
    answer = served.http.post("/v1/preview", json={"user_id": "u1", "k": 8, "variants": variants})
    assert answer.status_code == 200, answer.text
    feeds = answer.json()["feeds"]
    ids = {name: [each["item_id"] for each in feed["items"]] for name, feed in feeds.items()}
    assert ids["all"] == ids["chance"] == served.ids("u1", k=8)
    assert ids["mixed"] != ids["all"]
    assert feeds["all"]["items"][0]["reason"] == "You read about sport"
    served.server.stop()
    with Store(where) as store, store.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(SLATES)).scalar_one() == 1


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_a_preview_of_what_is_not_there_is_refused(run: Run) -> None:
    served = run()

    def ask(**more: Any) -> Any:
        return served.http.post("/v1/preview", json={"user_id": "u1", "variants": {"a": {}}} | more)

    assert ask(variants={"a": {"label": "canary"}}).status_code == 404
    assert "canary" in ask(variants={"a": {"label": "canary"}}).json()["error"]
    assert ask(variants={}).status_code == 422
    assert ask(k=101).status_code == 422
    assert ask(variants={"a": {"category_share": 2}}).status_code == 422


def test_who_would_get_an_item_is_in_whose_feed_it_is(run: Run) -> None:
    served = run()
    for user, item in (("fan", "i00"), ("cook", "i01"), ("other", "i02")):
        served.click(user, item, f"i{int(item[1:]) + 4:02}")
    # The toy's vectors grow with the title: this one is the first of its category.
    put(served, "match", title="y" * 200, category="sport")
    found = get(served, "/v1/items/match/readers", k=3)
    assert (found["asked"], found["away"]) == (3, 0)
    assert found["readers"][0]["user_id"] == "fan"
    assert found["readers"][0]["reason"] == "You read about sport"
    for each in found["readers"]:
        assert served.ids(each["user_id"], k=3)[each["position"]] == "match"
    told = {each["user_id"] for each in found["readers"]}
    assert all("match" not in served.ids(user, k=3) for user in {"fan", "cook", "other"} - told)
    served.click("fan", "match")  # nobody is shown what they have read
    assert "fan" not in {each["user_id"] for each in get(served, "/v1/items/match/readers", k=3)["readers"]}
    served.http.delete("/v1/items/match")
    assert served.http.get("/v1/items/match/readers").status_code == 404


def test_the_last_minutes_count_what_was_shown_and_wanted(run: Run, where: Path | str, eventually: Any) -> None:
    served = run()
    feed = served.feed("u1", k=4)
    served.click("u1", feed["items"][0]["item_id"], request_id=feed["request_id"])
    served.click("u1", feed["items"][1]["item_id"])  # names no request
    eventually(lambda: sum(each["slates"] for each in get(served, "/v1/live")["minutes"]) == 1)
    live = get(served, "/v1/live", minutes=5)
    assert len(live["minutes"]) == 5
    (minute,) = (each for each in live["minutes"] if each["slates"])
    assert (minute["shown"], minute["wanted"], minute["fallbacks"]) == (4, 1, 0)
    assert minute["latency_p50_ms"] > 0
    assert live["answers"] == {"model": 1}
    assert live["caches"]["state"]["misses"] >= 1
    assert live["version"] == 1
    with Store(where) as store:
        later = served.server.gateway.now() + 60 * 60_000_000
        assert sum(each.slates for each in read_minutes(store, later)[0]) == 0


def test_measures_are_told_as_they_were_stored(run: Run, where: Path | str) -> None:
    served = run()
    assert get(served, "/v1/measures", metric="ctr") == {"seconds": None, "series": []}
    assert get(served, "/v1/alerts") == {"raised": [], "alerts": []}
    hour = 3_600 * 10**6
    with Store(where) as store:
        for place in range(3):
            found = [Measure("", "", "ctr", 0.1 * place, 0.0, 1.0, 5), Measure("a", "", "ctr", 0.5, None, None, 2)]
            write_measures(store, place * hour, (place + 1) * hour, found)
    told = get(served, "/v1/measures", metric=["ctr", "nothing"])
    assert told["seconds"] == 3600
    assert [each["value"] for each in told["series"][0]["windows"]] == [0.0, 0.1, 0.2]
    assert told["series"][1] == {"metric": "nothing", "windows": []}
    one = get(served, "/v1/measures", metric="ctr", variant="a", since=hour)["series"][0]["windows"]
    assert [each["start"] for each in one] == [hour, 2 * hour]
    assert served.http.get("/v1/measures").status_code == 422


@pytest.mark.parametrize("where", ["sqlite"], indirect=True)
def test_versions_are_promoted_and_rolled_back(
    run: Run, export_toy: Any, tmp_path: Path, eventually: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().http.get("/v1/models").status_code == 404
    assert run().http.post("/v1/models/rollback", json={"why": "x"}).status_code == 404
    models = tmp_path / "models"
    registry = make_registry(models, export_toy)
    config = models / "models.config"
    options = Options(
        model_config_file=config,
        model_config_poll_wait_seconds=0.1,
        allow_version_labels_for_unavailable_models=True,
    )
    with ModelServer(options) as model_server:
        served = run(model_server, book=RegistryBook(models, "feed"), label="champion")
        found = get(served, "/v1/models")
        assert (found["asked"], found["before"]) == (1, None)
        assert found["versions"] == [
            {"version": 2, "state": "canary", "labels": ["canary"]},
            {"version": 1, "state": "champion", "labels": ["champion"]},
        ]

        def post(what: str, **body: Any) -> Any:
            return served.http.post(f"/v1/models/{what}", json=body)

        assert post("rollback", why="none before").status_code == 409
        assert post("promote", version=9, why="not there").status_code == 409
        assert post("promote", version=True, why="no number").status_code == 422
        assert post("promote", version=2).status_code == 422
        # What a label stands for can be looked at before it serves.
        variants = {"now": {}, "next": {"label": "canary"}}
        eventually(
            lambda: (
                served.http.post("/v1/preview", json={"user_id": "u", "variants": variants}).json()["feeds"]["next"][
                    "model"
                ]["version"]
                == 2
            )
        )
        # Nobody looks at it any more, and it is asked no more.
        asked = served.server.gateway.models
        assert asked.of("canary") is not asked.default
        monkeypatch.setattr("serving.gateway.models._VISIT_SECONDS", 0.3)
        served.http.post("/v1/preview", json={"user_id": "u", "variants": variants})
        eventually(lambda: asked.of("canary") is asked.default)
        answer = post("promote", version=2, why="it is better")
        assert answer.json()["history"][0]["why"] == "it is better"
        assert registry.model("feed").holder("champion") == 2
        eventually(lambda: get(served, "/v1/models")["asked"] == 2)
        assert post("rollback", why="complaints").status_code == 200
        assert registry.model("feed").holder("champion") == 1
        eventually(lambda: get(served, "/v1/models")["asked"] == 1)
        assert post("retire", version=1, why="the champion").status_code == 409


def make_registry(models: Path, export_toy: Any) -> Registry:
    for version in (1, 2):
        shutil.copytree(export_toy(True), models / "feed" / str(version))
    registry = Registry(models)
    for version in (1, 2):
        registry.add("feed", version, "trained")
    registry.promote("feed", 1, "the first")
    registry.try_out("feed", 2, "newer")
    return registry


def test_new_scopes_cover_what_is_read(run: Run, where: Path | str, eventually: Any) -> None:
    served = run()
    expected = {
        ("GET", "/v1/items"): "recommend",
        ("GET", "/v1/items/i00"): "recommend",
        ("GET", "/v1/items/i00/image"): "recommend",
        ("GET", "/v1/items/i00/readers"): "users",
        ("GET", "/v1/users"): "users",
        ("GET", "/v1/users/u1"): "users",
        ("GET", "/v1/live"): "metrics",
        ("GET", "/v1/measures?metric=ctr"): "metrics",
        ("GET", "/v1/alerts"): "metrics",
        ("POST", "/v1/preview"): "experiments",
        ("POST", "/v1/models/promote"): "models",
        ("POST", "/v1/models/retire"): "models",
        ("POST", "/v1/models/rollback"): "models",
    }
    with Store(where) as store:
        keys = {scope: create_key(store, scope, [scope])[1] for scope in sorted(set(expected.values()))}
    eventually(lambda: served.http.get("/v1/users").status_code == 401)
    for key in keys.values():
        bearer = {"authorization": f"Bearer {key}"}
        eventually(lambda bearer=bearer: served.http.get("/v1/users", headers=bearer).status_code != 401)
    for (method, path), needed in expected.items():
        for scope, key in keys.items():
            body = {} if method == "POST" else None
            answer = served.http.request(method, path, headers={"authorization": f"Bearer {key}"}, json=body)
            assert (answer.status_code == 403) == (scope != needed), (method, path, scope, answer.text)
        assert served.http.request(method, path, json={} if method == "POST" else None).status_code == 401


def test_a_path_with_a_control_character_is_nothing(run: Run, where: Path | str, eventually: Any) -> None:
    """Where a route is matched by a pattern, `$` matches before a last newline too: the guard saw no such route, and
    the application did."""
    served = run()
    document = served.http.get("/openapi.json").json()
    with Store(where) as store:
        keys = {scope: create_key(store, scope, [scope])[1] for scope in SCOPES}
    eventually(lambda: served.http.get("/v1/users").status_code == 401)
    for key in keys.values():
        bearer = {"authorization": f"Bearer {key}"}
        eventually(lambda bearer=bearer: served.http.get("/nothing", headers=bearer).status_code != 401)
    operations = [(method.upper(), path) for path, all_of in document["paths"].items() for method in all_of]
    for method, path in [*operations, ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/console/app.js")]:
        path = re.sub(r"\{\w+\}", "i00", path)
        body = None if method == "GET" else {}
        for odd in (f"{path}%0A", f"{path}%7F", f"%00{path}"):
            assert served.http.request(method, odd, json=body).status_code == 401, (method, odd)
            for scope, key in keys.items():
                answer = served.http.request(method, odd, headers={"authorization": f"Bearer {key}"}, json=body)
                assert answer.status_code == 404, (method, odd, scope, answer.text)
                assert answer.json() == {"error": "There is nothing here."}
