"""Every ranker against a plain loop."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.preprocessing import normalize

from pipelines import rankers
from pipelines.data.histories import Interactions
from pipelines.rankers import FixedOrder, HistoryProfile, Queries, item_knn, popularity, tfidf_profile


def dense(matrix: Any) -> np.ndarray:
    return matrix.toarray() if sp.issparse(matrix) else np.asarray(matrix)


def all_queries(made: Any) -> Queries:
    log = made.behaviour.interactions
    return Queries(log.user, log.history_end, log.at)


def test_blocks_cover_the_queries_once() -> None:
    queries = Queries(np.arange(10), np.arange(10), np.arange(10))
    blocks = list(queries.blocks(4))
    assert [len(block) for _, block in blocks] == [4, 4, 2]
    assert [user for _, block in blocks for user in block.user] == list(range(10))
    assert all((queries[rows].user == block.user).all() for rows, block in blocks)


def test_popularity_counts_items_and_gives_everybody_the_same(made: Any) -> None:
    item = made.behaviour.interactions.item
    values = popularity(item, len(made.catalogue))
    assert list(values) == [(item == row).sum() for row in range(1, len(made.catalogue) + 1)]
    ranker = FixedOrder("popularity", values)
    np.testing.assert_array_equal(ranker.embed(all_queries(made)) @ ranker.items.T, np.tile(values, (len(item), 1)))


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("decay", "length"), [(1.0, None), (0.8, None), (1.0, 3), (0.5, 2)])
def test_a_history_profile_is_a_weighted_sum(made: Any, sparse: bool, decay: float, length: int | None) -> None:
    log = made.behaviour.interactions
    table = np.random.default_rng(0).random((len(made.catalogue), 5))
    profiles = sp.csr_matrix(table) if sparse else table
    queries = all_queries(made)
    found = dense(HistoryProfile("any", log, profiles, profiles, decay, length).embed(queries))
    assert found.shape == (len(queries), 5)
    for row, user, end in zip(found, queries.user, queries.history_end, strict=True):
        places = list(range(log.user_offsets[user], end))[-length if length else 0 :]
        expected = sum((decay ** (end - 1 - place) * table[log.item[place] - 1] for place in places), np.zeros(5))
        np.testing.assert_allclose(row, expected)


def test_item_knn_is_the_cosine_of_sets_of_users() -> None:
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 30, 200), rng.integers(0, 11, 200)  # with repeats, and 0 for unknown
    read = np.zeros((30, 12))
    read[user[item > 0], item[item > 0] - 1] = 1
    length = np.linalg.norm(read, axis=0)
    expected = read.T @ read / np.maximum(np.outer(length, length), 1e-9)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(dense(item_knn(user, item, 12).matrix), expected)


def test_item_knn_keeps_the_strongest_neighbours() -> None:
    rng = np.random.default_rng(3)
    user, item = rng.integers(0, 40, 400), rng.integers(1, 21, 400)
    whole = dense(item_knn(user, item, 20).matrix)
    few = dense(item_knn(user, item, 20, neighbours=4).matrix)
    for row, kept in zip(whole, few, strict=True):
        weakest = np.sort(row)[-4]
        np.testing.assert_array_equal(kept, np.where(row >= weakest, row, 0))  # ties with the weakest stay


@pytest.mark.parametrize("at_once", [1, 40, 10**6])
@pytest.mark.parametrize("seed", range(5))
def test_item_knn_in_blocks_is_that_of_the_whole_product(
    seed: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    users, items = 12, 25  # so few that many cosines are equal
    user, item = rng.integers(0, users, 120), rng.integers(0, items - 2, 120)
    read = np.zeros((users, items))
    read[user[item > 0], item[item > 0] - 1] = 1
    normal = normalize(sp.csr_matrix(read), axis=0)
    whole = (normal.T @ normal).toarray()
    np.fill_diagonal(whole, 0)
    weakest = np.sort(whole, axis=1)[:, [-3]]
    monkeypatch.setattr(rankers, "_ENTRIES_AT_ONCE", at_once)
    found = item_knn(user, item, items, neighbours=3).matrix
    np.testing.assert_array_equal(dense(found), np.where(whole >= weakest, whole, 0))
    assert (found.data > 0).all()


def test_item_knn_holds_no_more_than_a_block_of_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    user, item = np.repeat(np.arange(3000), 60), rng.integers(1, 3001, 180_000)
    monkeypatch.setattr(rankers, "_ENTRIES_AT_ONCE", 200_000)
    tracemalloc.start()
    found = item_knn(user, item, 3000, neighbours=20).matrix
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.nnz >= 20 * 3000
    assert peak < 40e6  # the product has about 6 million entries of 12 bytes


def test_item_knn_of_nobody_knows_nothing() -> None:
    nobody = item_knn(np.zeros(0, int), np.zeros(0, int), 3)
    np.testing.assert_array_equal(dense(nobody.matrix), np.zeros((3, 3)))


def test_item_knn_ranks_by_the_summed_similarity(made: Any) -> None:
    log = made.behaviour.interactions
    similar = item_knn(log.user, log.item, len(made.catalogue))
    ranker, queries = similar.over(log, "itemKNN"), all_queries(made)
    scores = dense(ranker.embed(queries) @ ranker.items.T)
    table = dense(similar.matrix)
    for row, user, end in zip(scores, queries.user, queries.history_end, strict=True):
        read = log.item[log.user_offsets[user] : end] - 1
        np.testing.assert_allclose(row, table[read].sum(axis=0), atol=1e-12)


def history_of(item: int) -> Interactions:
    """One user who wanted one item."""
    one, none = np.zeros(1, np.int64), np.array([""], dtype=object)
    return Interactions(
        user_ids=none,
        user_language=none,
        user_offsets=np.array([0, 1]),
        user=one,
        item=np.array([item]),
        at=one,
        dwell=one,
        scroll=one,
        device=none,
        request=one - 1,
        history_end=one,
    )


def test_tf_idf_finds_items_that_share_words() -> None:
    catalogue: Any = SimpleNamespace(text=np.array(["storm coast", "coast storm", "vote budget", "budget vote"]))
    log = history_of(3)
    ranker = tfidf_profile(catalogue, log, 10)
    query = Queries(np.array([0]), np.array([1]), np.array([0]))
    assert np.argsort(-dense(ranker.embed(query) @ ranker.items.T)[0])[:2].tolist() in ([2, 3], [3, 2])


@pytest.mark.parametrize("text", [["one", "two"], ["the", "and"], ["", "7"]])
def test_texts_without_a_shared_word_rank_nothing_instead_of_failing(text: list[str]) -> None:
    class Few:
        def __init__(self) -> None:
            self.text = np.array(text, dtype=object)

        def __len__(self) -> int:
            return len(self.text)

    catalogue: Any = Few()
    log = history_of(1)
    ranker = tfidf_profile(catalogue, log, 10)
    query = Queries(np.array([0]), np.array([1]), np.array([0]))
    np.testing.assert_array_equal(dense(ranker.embed(query) @ ranker.items.T), np.zeros((1, 2)))
