"""Vectors are computed once, whatever happens in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.errors import BadInput
from pipelines.vector_cache import kept_vectors, key_of


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BELFRY_CACHE", str(tmp_path))
    return tmp_path


def _keys(words: str) -> list[bytes]:
    return [key_of(word.encode()) for word in words.split()]


class Encoder:
    """Counts what it is asked for; fails after so many batches."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.asked: list[int] = []
        self.left = fails_after

    def __call__(self, missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(missing), 2):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left = None if self.left is None else self.left - 1
            places = missing[start : start + 2]
            self.asked += places.tolist()
            yield places, np.stack([np.full(3, place, np.float32) for place in places])


def test_only_what_is_new_is_made() -> None:
    first, second = Encoder(), Encoder()
    kept_vectors("text", "v", _keys("a b c"), first)
    found = kept_vectors("text", "v", _keys("c d a e"), second)
    assert (first.asked, second.asked) == ([0, 1, 2], [1, 3])
    np.testing.assert_array_equal([found[key][0] for key in _keys("c d a e")], [2, 1, 0, 3])


def test_another_version_or_kind_is_another_vector() -> None:
    for kind, version in (("text", "v"), ("text", "w"), ("image", "v")):
        encoder = Encoder()
        kept_vectors(kind, version, _keys("a b"), encoder)
        assert encoder.asked == [0, 1]


def test_work_that_is_stopped_goes_on_where_it_was() -> None:
    keys = _keys("a b c d e f g")
    with pytest.raises(KeyboardInterrupt):
        kept_vectors("text", "v", keys, Encoder(fails_after=2))
    encoder = Encoder()
    found = kept_vectors("text", "v", keys, encoder)
    assert encoder.asked == [4, 5, 6]
    assert len(found) == 7


def test_two_at_once_have_the_same() -> None:
    keys = [key_of(bytes([number])) for number in range(200)]
    results: list[dict[bytes, np.ndarray]] = []
    threads = [
        threading.Thread(target=lambda: results.append(kept_vectors("text", "v", keys, Encoder()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for result in results:
        assert all(np.array_equal(result[key], results[0][key]) for key in keys)


def test_nothing_wrong_is_kept(empty_cache: Path) -> None:
    def broken(missing: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield missing, np.full((len(missing), 3), np.nan)

    with pytest.raises(AssertionError, match="not finite"):
        kept_vectors("text", "v", _keys("a"), broken)
    encoder = Encoder()
    kept_vectors("text", "v", _keys("a"), encoder)
    assert encoder.asked == [0]
    (file,) = (empty_cache / "text").glob("*.sqlite")
    file.write_bytes(b"not a database, and longer than a header of one would be" * 20)
    for more in (f"{file}-wal", f"{file}-shm"):
        Path(more).unlink(missing_ok=True)
    with pytest.raises(BadInput, match="remove it"):
        kept_vectors("text", "v", _keys("a"), Encoder())


def test_what_cannot_be_made_is_left_out() -> None:
    assert kept_vectors("text", "v", _keys("a"), lambda missing: ()) == {}
    assert kept_vectors("text", "v", [], Encoder()) == {}


@given(st.lists(st.binary()), st.lists(st.binary()))
def test_keys_tell_parts_apart(left: list[bytes], right: list[bytes]) -> None:
    assert (key_of(*left) == key_of(*right)) == (left == right)
