from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.edge.journal import Article, Entry, Journal

VECTOR = np.array([0.5, -1e-30, 3.25], np.float32)


def same(first: list[Entry], second: list[Entry]) -> bool:
    return [repr(each) for each in first] == [repr(each) for each in second]


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    path, entry = tmp_path / "items.jsonl", Entry("a\n/ü", Article("Storm", tags=("x",)), "one", "one", VECTOR, 0.25)
    journal = Journal(path)
    for each in (Entry("b", None, on_offer=False), entry):
        journal.append(each)
    found = Journal(path).entries
    assert same(found, journal.entries)
    np.testing.assert_array_equal(found[1].embedding, VECTOR)
    assert found[1].embedding is not None
    assert found[1].embedding.dtype == np.float32


@settings(max_examples=40, deadline=None)
@given(cut=st.integers(1, 400))
def test_a_line_cut_off_by_a_crash_was_never_there(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = tmp_path_factory.mktemp("journal") / "items.jsonl"
    journal = Journal(path)
    for item in ("a", "b"):
        journal.append(Entry(item, Article("Storm"), "one", "one", VECTOR))
    whole = path.read_bytes()
    last = len(whole) - whole.rindex(b"\n", 0, -1) - 1
    path.write_bytes(whole[: -min(cut, last)])
    again = Journal(path)
    assert [each.item for each in again.entries] == ["a"]
    again.append(Entry("c", None))
    assert [each.item for each in Journal(path).entries] == ["a", "c"]


def test_a_damaged_line_is_told_and_kept_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    for item in ("a", "b", "c"):
        journal.append(Entry(item, None))
    damaged = path.read_bytes().replace(b'"b"', b'"b')
    path.write_bytes(damaged)
    with caplog.at_level(logging.WARNING):
        assert [each.item for each in Journal(path).entries] == ["a", "c"]
    assert "1 of 3 lines are damaged" in caplog.text
    assert path.with_suffix(".damaged").read_bytes() == damaged


def test_the_file_does_not_grow_with_changes_of_the_same_item(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    journal = Journal(path)
    for number in range(200):
        journal.append(Entry("a", Article(f"title {number}"), "one"))
    assert path.read_bytes().count(b"\n") <= 20
    found = Journal(path).entries
    assert [each.article.title for each in found if each.article] == ["title 199"]


def test_in_memory_there_is_no_file(tmp_path: Path) -> None:
    Journal(None).append(Entry("a", None))
    assert list(tmp_path.iterdir()) == []
