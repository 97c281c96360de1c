from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest

from serving.edge.errors import BadRequest
from serving.edge.guard import MAX_BODY_BYTES
from serving.edge.server import EdgeServer


def test_recommendations_have_the_gateways_shape(server: EdgeServer, client: httpx.Client) -> None:
    history = [{"item_id": "i01", "age_seconds": 7200, "dwell_seconds": 31, "scroll_depth": 0.8}, {"item_id": "i02"}]
    context = {"device": "mobile", "time_seconds": 1_736_164_800}
    body = {"user_id": "u1", "history": history, "k": 5, "language": "en", "exclude": ["i07"], "context": context}
    found = client.post("/v1/recommendations", json=body).json()
    expected = server.store.recommender.recommend(
        [("i01", 7200, 31, 0.8), ("i02",)],
        language="en",
        device="mobile",
        time_seconds=1_736_164_800,
        exclude=["i07"],
        k=5,
    )
    assert set(found) == {"request_id", "model", "version", "variant", "items"}
    assert [(each["item_id"], each["score"]) for each in found["items"]] == expected
    assert [each["position"] for each in found["items"]] == list(range(5))
    again = client.post("/v1/recommendations", json=body).json()
    assert again["request_id"] != found["request_id"]
    assert len(client.post("/v1/recommendations").json()["items"]) == 8  # the model's own K


def test_articles_are_put_and_removed(client: httpx.Client) -> None:
    def offered() -> set[str]:
        found = client.post("/v1/recommendations", json={"k": 1000}).json()
        return {each["item_id"] for each in found["items"]}

    put = client.put("/v1/items/caf%C3%A9%2F1", json={"title": "Storm", "tags": ["rain"], "published_at": 5})
    assert put.json() == {"item_id": "café/1", "on_offer": True}
    assert "café/1" in offered()
    assert client.delete("/v1/items/caf%C3%A9%2F1").json() == {"item_id": "café/1", "on_offer": False}
    assert "café/1" not in offered()
    assert client.delete("/v1/items/nobody").status_code == 404


def test_bundles_are_reloaded_and_rolled_back(client: httpx.Client, store_folder: Path, bundles: list[Path]) -> None:
    assert client.get("/readyz").json()["bundle"] == "1"
    shutil.copytree(bundles[1], store_folder / "2")
    assert client.post("/v1/reload").json() == {"bundle": "2"}
    assert client.post("/v1/rollback").json() == {"bundle": "1"}
    assert client.post("/v1/rollback").status_code == 404
    assert client.post("/v1/reload", json={"bundle": 2}).json() == {"bundle": "2"}
    shutil.copytree(bundles[1], store_folder / "3")
    (store_folder / "3" / "user.tflite").write_bytes(b"")
    refused = client.post("/v1/reload")
    assert refused.status_code == 409
    assert "checksum differs" in refused.json()["error"]
    ready = client.get("/readyz").json()
    assert ready["bundle"] == "2"
    assert "checksum differs" in ready["refused"]["3"]
    assert client.get("/healthz").json() == {"status": "ok"}


WRONG = [
    ("POST", "/v1/recommendations", b"{", 400),
    ("POST", "/v1/recommendations", b"[]", 400),
    ("POST", "/v1/recommendations", b"\xff", 400),
    ("POST", "/v1/recommendations", b'{"k": NaN}', 400),
    ("POST", "/v1/recommendations", b'{"k": 1e400}', 400),
    ("POST", "/v1/recommendations", b'{"k": 0}', 400),
    ("POST", "/v1/recommendations", b"[" * 100_000, 400),
    ("POST", "/v1/recommendations", b'{"hist": []}', 400),
    ("POST", "/v1/recommendations", b'{"history": {}}', 400),
    ("POST", "/v1/recommendations", b'{"history": ["i01"]}', 400),
    ("POST", "/v1/recommendations", b'{"history": [{"item_id": 7}]}', 400),
    ("POST", "/v1/recommendations", b'{"history": [{"item_id": "a", "age_seconds": 1e999}]}', 400),
    ("POST", "/v1/recommendations", b'{"language": "\\ud800"}', 400),
    ("POST", "/v1/recommendations", b'{"exclude": "i01"}', 400),
    ("POST", "/v1/recommendations", b'{"context": {"time_seconds": 1.5}}', 400),
    ("POST", "/v1/recommendations", b'{"user_id": 1}', 400),
    ("POST", "/v1/recommendations", b" " * (MAX_BODY_BYTES + 1), 413),
    ("GET", "/v1/recommendations", b"", 400),
    ("PUT", "/v1/items/x", b'{"titel": "Storm"}', 400),
    ("PUT", "/v1/items/x", b'{"tags": "rain"}', 400),
    ("PUT", "/v1/items/%ff", b"{}", 400),
    ("PUT", "/v1/items/" + "x" * 1001, b"{}", 400),
    ("POST", "/v1/reload", b'{"bundle": "2"}', 400),
    ("POST", "/v1/reload", b'{"bundle": 99}', 404),
    ("GET", "/nothing", b"", 404),
    ("GET", "/v1/items/", b"", 404),
]


@pytest.mark.parametrize(("method", "path", "body", "status"), WRONG)
def test_wrong_requests_are_told_in_one_sentence(
    client: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    found = client.request(method, path, content=body, headers={"content-type": "application/json"})
    assert found.status_code == status, found.text
    sentence = json.loads(found.content)["error"]
    assert sentence.endswith(".")
    assert len(sentence) < 600
    assert client.get("/healthz").status_code == 200


def test_a_public_address_needs_a_word(store_folder: Path) -> None:
    with pytest.raises(BadRequest, match="--allow-public-bind"):
        EdgeServer(store_folder, bind_address="0.0.0.0")
