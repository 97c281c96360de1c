"""API keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.events import BadStore, Store
from serving.events.keys import SCOPES, KeyRing, create_key, list_keys, revoke_key


def test_a_key_is_found_until_it_is_revoked(where: Path | str) -> None:
    with Store(where) as store:
        assert not KeyRing(list_keys(store)).any
        first, secret = create_key(store, "app", ["recommend", "events"], rate=5.0)
        second, other = create_key(store, "editors", SCOPES)
        ring = KeyRing(list_keys(store))
        key = ring.find(secret)
        assert key is not None
        assert (key.key_id, key.scopes, key.rate) == (first, {"recommend", "events"}, 5.0)
        assert ring.find(other) is not None
        for wrong in (
            "",
            secret[:-1],
            secret + "0",
            secret.upper(),
            secret.replace(first, second),
            "belfry__",
            "\ud800",
        ):
            assert ring.find(wrong) is None
        assert revoke_key(store, first)
        assert not revoke_key(store, first)
        assert KeyRing(list_keys(store)).find(secret) is None
        assert revoke_key(store, second)
        assert KeyRing(list_keys(store)).any, "a store whose keys are all revoked is not an open one"
        assert store.counters()["keys"] == 5


def test_a_key_is_not_in_the_store(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        _, secret = create_key(store, "app", ["events"])
    bits = secret.rpartition("_")[2]
    assert len(bytes.fromhex(bits)) * 8 == 256
    assert not [file.name for file in tmp_path.iterdir() if bits.encode() in file.read_bytes()]


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_would_be_no_limit_is_refused(tmp_path: Path, rate: float) -> None:
    with Store(tmp_path) as store, pytest.raises(BadStore, match="above 0"):
        create_key(store, "app", ["events"], rate)


def test_an_unknown_scope_is_refused(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        for scopes in (["recommend", "everything"], []):
            with pytest.raises(BadStore):
                create_key(store, "app", scopes)
